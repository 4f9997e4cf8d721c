//! A wire between a source and its registry that can be cut, and mended again.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Listens on a port of its own and passes everything on.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    state: Arc<watch::Sender<State>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Connections break, and new ones are broken at once.
    Cut,
    /// Connections stay and are taken on, but no byte passes.
    Silent,
}

impl Gate {
    pub async fn to(target: &str) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (state, seen) = watch::channel(State::Open);
        let target = target.to_owned();
        tokio::spawn(async move {
            while let Ok((incoming, _)) = listener.accept().await {
                tokio::spawn(pass(incoming, target.clone(), seen.clone()));
            }
        });
        Gate { address, state: Arc::new(state) }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    pub fn silence(&self) {
        self.state.send_replace(State::Silent);
    }

    pub fn mend(&self) {
        self.state.send_replace(State::Open);
    }
}

async fn pass(mut incoming: TcpStream, target: String, mut state: watch::Receiver<State>) {
    if *state.borrow_and_update() == State::Cut {
        return;
    }
    let _ = state.wait_for(|state| *state != State::Silent).await;
    let Ok(mut outgoing) = TcpStream::connect(target).await else { return };
    let (mut from_source, mut to_source) = incoming.split();
    let (mut from_registry, mut to_registry) = outgoing.split();
    let there = copy(&mut from_source, &mut to_registry, state.clone());
    let back = copy(&mut from_registry, &mut to_source, state.clone());
    tokio::select! {
        _ = there => {}
        _ = back => {}
        _ = state.wait_for(|state| *state == State::Cut) => {}
    }
}

async fn copy<R, W>(from: &mut R, to: &mut W, mut state: watch::Receiver<State>) -> std::io::Result<()>
where
    R: tokio::io::AsyncRead + Unpin,
    W: tokio::io::AsyncWrite + Unpin,
{
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let _ = state.wait_for(|state| *state != State::Silent).await;
        to.write_all(&buffer[..length]).await?;
    }
}
