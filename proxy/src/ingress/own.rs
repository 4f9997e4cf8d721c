//! What the sidecar answers itself when it is called by its own address.

use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::Either;
use serde_json::json;
use wire::{Headers, ResponseHead};

use crate::call::{Body, Call, Reply};
use crate::config::{AppPlace, Config};
use crate::dispatch::Dispatcher;
use crate::error::Error;
use crate::ingress::asked::OwnAnswer;
use crate::ingress::jsonrpc;
use crate::metrics::{CallMetrics, Metrics};
use crate::record::Record;

/// What it answers from, on one worker.
#[derive(Debug)]
pub struct OwnAnswers {
    /// Carries the calls of JSON-RPC.
    pub dispatcher: Rc<Dispatcher>,
    /// Name and version.
    pub config: Arc<Config>,
    /// Counted into.
    pub metrics: Arc<Metrics>,
    /// Calls that never came to a known service.
    pub unrouted: CallMetrics,
}

impl OwnAnswers {
    /// Carries a call to its service, or answers it here.
    pub fn carry<'a>(
        &'a self,
        own: Option<OwnAnswer>,
        call: &'a mut Call,
        record: &'a mut Record,
    ) -> impl Future<Output = Result<Reply, Error>> + 'a {
        match own {
            None => Either::Left(self.dispatcher.call(call, record)),
            // On the heap: the many calls that go on do not carry room for it.
            Some(own) => Either::Right(Box::pin(self.answer(own, call, record))),
        }
    }

    /// The answer; `call` is what was asked, with the service that it names, if any.
    async fn answer(&self, own: OwnAnswer, call: &mut Call, record: &mut Record) -> Result<Reply, Error> {
        if !matches!(own, OwnAnswer::Egress(_)) {
            record.forget();
        }
        match own {
            OwnAnswer::Egress(index) => self.dispatcher.call_outside(index, call, record).await,
            OwnAnswer::JsonRpc => jsonrpc::answer(self, call).await,
            OwnAnswer::Health => Ok(reply(204, None)),
            OwnAnswer::Metadata => Ok(reply(200, Some(self.metadata()))),
        }
    }

    /// Dapr's form; what this sidecar has none of is empty.
    fn metadata(&self) -> Vec<u8> {
        let id = self.config.service.as_ref().map(ToString::to_string).unwrap_or_default();
        let app = self.config.app.as_ref().map(|app| match &app.place {
            AppPlace::Host { name, port } => {
                json!({ "protocol": app.protocol.to_string(), "channelAddress": name, "port": port })
            }
            AppPlace::Unix(path) => json!({ "protocol": app.protocol.to_string(), "channelAddress": path }),
        });
        let metadata = json!({
            "id": id,
            "runtimeVersion": concat!("pillion/", env!("CARGO_PKG_VERSION")),
            "enabledFeatures": [],
            "actors": [],
            "components": [],
            "httpEndpoints": [],
            "subscriptions": [],
            "extended": {},
            "appConnectionProperties": app.unwrap_or_else(|| json!({})),
        });
        metadata.to_string().into_bytes()
    }
}

/// An answer of JSON, or without a body.
pub fn reply(status: u16, json: Option<Vec<u8>>) -> Reply {
    let mut headers = Headers::new();
    if json.is_some() {
        headers.push(b"content-type", b"application/json");
    }
    Reply { head: ResponseHead { status, headers }, body: Body::Whole(json.unwrap_or_default().into()) }
}
