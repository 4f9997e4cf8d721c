//! A worker: one thread, one single-threaded runtime, its own channels and connections. Nothing of a call leaves it.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::{self, JoinHandle};

use rustls::ClientConfig;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

use crate::config::{Config, Door, Protocol};
use crate::discovery::{UNKNOWN, View};
use crate::dispatch::{Dispatcher, Egress};
use crate::edge::{Detached, Scratch, Stream};
use crate::ingress::crew::Crew;
use crate::ingress::date::Date;
use crate::ingress::http::HttpDoor;
use crate::ingress::http2::Http2Door;
use crate::ingress::listener::{self, Bounds, LocalListener, Permit};
use crate::ingress::own::OwnAnswers;
use crate::ingress::patience::Patience;
use crate::ingress::peer::PeerDoor;
use crate::ingress::tcp::TcpDoor;
use crate::ingress::thrift::ThriftDoor;
use crate::metrics::{Direction, Metrics};
use crate::tls::Tls;
use crate::upstream::app::App;
use crate::upstream::app_pool::AppPool;
use crate::upstream::channel::Shared;
use crate::upstream::connect::Connector;
use crate::upstream::pool::Pool;
use crate::upstream::target::Target;
use crate::upstream::transcode::Schemas;

/// What all workers share.
#[derive(Debug, Clone)]
pub struct Common {
    /// The configuration.
    pub config: Arc<Config>,
    /// The table.
    pub view: Arc<View>,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The identity; `None`: `--insecure`.
    pub tls: Option<Arc<Tls>>,
    /// TLS with the hosts of `[[egress]]`, in their order; `None`: it is not spoken with that one.
    pub egress: Arc<[Option<Arc<ClientConfig>>]>,
    /// The own app's methods; `None`: it is called as it is.
    pub schemas: Option<Arc<Schemas>>,
    /// What is said of ourselves in HELLO.
    pub wire: wire::Config,
    /// Calls under way from peers.
    pub inbound_calls: Arc<AtomicUsize>,
    /// Calls under way from the own app.
    pub outbound_calls: Arc<AtomicUsize>,
}

/// A bound listener, and what it is for.
#[derive(Debug)]
pub enum Listening {
    /// The own app's calls; bound to one service, or to all.
    Outbound(LocalListener, Option<Arc<Door>>),
    /// Other sidecars.
    Inbound(std::net::TcpListener),
}

/// What a worker is told.
#[derive(Debug)]
pub enum Order {
    /// Accept on this listener, and deal to all workers.
    Listen(Listening),
    /// Serve this connection.
    Serve(Connection),
    /// Take no more calls from peers, tell them, and say when that is done.
    Drain(oneshot::Sender<()>),
    /// Say when all answers to peers are sent.
    Settle(oneshot::Sender<()>),
    /// End.
    Stop,
}

/// An accepted connection on its way to a worker.
#[derive(Debug)]
pub struct Connection {
    socket: Detached,
    kind: Kind,
    permit: Permit,
}

#[derive(Debug, Clone)]
enum Kind {
    Outbound(Option<Arc<Door>>),
    Inbound(SocketAddr),
}

/// All workers, seen from the control thread.
#[derive(Debug)]
pub struct Workers {
    orders: Vec<mpsc::UnboundedSender<Order>>,
    threads: Vec<JoinHandle<()>>,
}

/// A block of this size is given to the allocator and taken back once, see [`steady_heap`].
const STEADY_BYTES: usize = 2 * 1024 * 1024;

/// Tells glibc's malloc not to give memory back after every burst.
///
/// It returns the free end of a heap to the system beyond 128 KiB, and takes it anew, with a page fault for every 4 KiB, for the
/// next body: a tenth of what 16 KiB bodies cost. The bound follows the largest block that was mapped for itself and freed, twice
/// its size (mallopt(3), M_MMAP_THRESHOLD); so such a block sets it, which needs neither the environment nor unsafe code. What
/// stays of a burst is that much at most, where the end of the heap is free.
fn steady_heap() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(STEADY_BYTES)));
}

impl Workers {
    /// Starts `common.config.workers` threads.
    pub fn start(common: &Common) -> io::Result<Workers> {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..common.config.workers).map(|_| mpsc::unbounded_channel()).unzip();
        let mut threads = Vec::new();
        steady_heap();
        for (index, orders) in receivers.into_iter().enumerate() {
            let (common, senders) = (common.clone(), senders.clone());
            // A runtime that is bound to its thread, so it is made there; whether that worked is waited for.
            let (made, is_made) = std::sync::mpsc::sync_channel(1);
            threads.push(thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => {
                        made.send(Ok(())).unwrap_or_default();
                        runtime.block_on(Worker::new(index, &common, senders).run(orders));
                    }
                    Err(error) => made.send(Err(error)).unwrap_or_default(),
                }
            })?);
            is_made.recv().unwrap_or_else(|error| Err(io::Error::other(error)))?;
        }
        Ok(Workers { orders: senders, threads })
    }

    /// One worker, on the caller's own thread and `LocalSet`, and its door for the own app's calls.
    pub fn here(common: &Common) -> (Workers, Rc<HttpDoor>) {
        let (sender, orders) = mpsc::unbounded_channel();
        let worker = Worker::new(0, common, vec![sender.clone()]);
        let door = Rc::clone(&worker.http);
        spawn_local(worker.run(orders));
        (Workers { orders: vec![sender], threads: Vec::new() }, door)
    }

    /// The first worker accepts; it deals to all.
    pub fn listen(&self, listening: Listening) {
        self.orders[0].send(Order::Listen(listening)).unwrap_or_default();
    }

    /// No more calls from peers: resolves when every worker has stopped to take them, and counts those it has taken.
    pub async fn drain(&self) {
        self.tell_and_wait(Order::Drain).await;
    }

    /// After [`Workers::drain`]: resolves when what was answered to peers is sent.
    pub async fn settle(&self) {
        self.tell_and_wait(Order::Settle).await;
    }

    async fn tell_and_wait(&self, order: impl Fn(oneshot::Sender<()>) -> Order) {
        let told = self.orders.iter().map(|worker| {
            let (done, wait) = oneshot::channel();
            // A worker that has ended has nothing to do any more.
            worker.send(order(done)).unwrap_or_default();
            wait
        });
        for wait in told.collect::<Vec<_>>() {
            wait.await.unwrap_or_default();
        }
    }

    /// Ends all workers and waits for their threads.
    pub fn stop(self) {
        for worker in &self.orders {
            worker.send(Order::Stop).unwrap_or_default();
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker ended by a panic");
            }
        }
    }
}

struct Worker {
    index: usize,
    http: Rc<HttpDoor>,
    tcp: Rc<TcpDoor>,
    thrift: Rc<ThriftDoor>,
    peer: Rc<PeerDoor>,
    pool: Rc<Pool>,
    patience: Rc<Patience>,
    all: Vec<mpsc::UnboundedSender<Order>>,
    next: Cell<usize>,
    common: Common,
    /// Ends the listener for peers when dropped.
    inbound: RefCell<Option<tokio::task::JoinHandle<()>>>,
}

impl Worker {
    fn new(index: usize, common: &Common, all: Vec<mpsc::UnboundedSender<Order>>) -> Rc<Worker> {
        let Common { config, view, metrics, tls, egress, schemas, wire, inbound_calls, outbound_calls } =
            common.clone();
        let shared = Shared::new(Arc::clone(&metrics));
        let connector = Connector {
            tls: tls.clone(),
            wire: wire.clone(),
            timeout: config.timeouts.connect,
            shared: Rc::clone(&shared),
            metrics: Arc::clone(&metrics),
            view: Arc::clone(&view),
        };
        let pool = Pool::new(Rc::new(connector), Arc::clone(&view));
        let scratch = Scratch::new();
        let egress = Egress::new(&config, &egress, &scratch, &metrics);
        let dispatcher =
            Dispatcher::new(Arc::clone(&view), Rc::clone(&pool), Arc::clone(&config), Arc::clone(&metrics), egress);
        let dispatcher = Rc::new(dispatcher);
        let patience = Patience::new(config.timeouts.header, config.timeouts.idle);
        let unrouted = metrics.calls(Direction::Outbound, UNKNOWN, "");
        let tcp = Rc::new(TcpDoor {
            dispatcher: Rc::clone(&dispatcher),
            metrics: Arc::clone(&metrics),
            scratch: scratch.clone(),
            unrouted: unrouted.clone(),
            calls: Arc::clone(&outbound_calls),
        });
        let thrift = Rc::new(ThriftDoor {
            dispatcher: Rc::clone(&dispatcher),
            metrics: Arc::clone(&metrics),
            patience: Rc::clone(&patience),
            scratch: scratch.clone(),
            unrouted: unrouted.clone(),
            calls: Arc::clone(&outbound_calls),
            crew: Crew::new(),
        });
        let date = Rc::new(Date::new());
        let own = Rc::new(OwnAnswers {
            dispatcher: Rc::clone(&dispatcher),
            config: Arc::clone(&config),
            metrics: Arc::clone(&metrics),
            unrouted: unrouted.clone(),
        });
        let http2 = Rc::new(Http2Door {
            own: Rc::clone(&own),
            config: Arc::clone(&config),
            metrics: Arc::clone(&metrics),
            unrouted: unrouted.clone(),
            calls: Arc::clone(&outbound_calls),
            date: Rc::clone(&date),
            crew: Crew::new(),
        });
        let http = Rc::new(HttpDoor {
            own,
            config: Arc::clone(&config),
            unrouted,
            metrics: Arc::clone(&metrics),
            patience: Rc::clone(&patience),
            scratch: scratch.clone(),
            calls: outbound_calls,
            date,
            warm: Cell::new(0),
            http2,
        });
        let app = config.app.clone();
        let app = app.map(|app| {
            let protocol = app.protocol;
            let sockets = AppPool::new(Target::App(app), &config, scratch, shared.waiting(), Arc::clone(&metrics));
            App::own(sockets, protocol, &config, schemas)
        });
        let peer = Rc::new(PeerDoor {
            tls,
            wire,
            app,
            config,
            metrics,
            view,
            shared,
            calls: inbound_calls,
            crew: Crew::new(),
            channels: RefCell::default(),
            draining: Cell::new(false),
        });
        Rc::new(Worker {
            index,
            http,
            tcp,
            thrift,
            peer,
            pool,
            patience,
            all,
            next: Cell::new(0),
            common: common.clone(),
            inbound: RefCell::new(None),
        })
    }

    async fn run(self: Rc<Self>, mut orders: mpsc::UnboundedReceiver<Order>) {
        spawn_local(Rc::clone(&self.patience).sweep());
        spawn_local(self.http.own.dispatcher.watch());
        spawn_local(self.http.scratch.clone().rest());
        spawn_local(Rc::clone(&self.pool).prune());
        if let Some(app) = &self.peer.app {
            app.sweep();
        }
        while let Some(order) = orders.recv().await {
            match order {
                Order::Listen(listening) => self.listen(listening),
                Order::Serve(Connection { socket, kind, permit }) => match Stream::attach(socket) {
                    Ok(socket) => self.serve(socket, kind, permit),
                    Err(error) => tracing::warn!(%error, "an accepted connection cannot be used"),
                },
                Order::Drain(done) => {
                    if let Some(listener) = self.inbound.borrow_mut().take() {
                        listener.abort();
                    }
                    self.peer.drain();
                    // Nobody waits any more if the process is ending.
                    done.send(()).unwrap_or_default();
                }
                Order::Settle(done) => {
                    let peer = Rc::clone(&self.peer);
                    spawn_local(async move {
                        peer.quiet().await;
                        done.send(()).unwrap_or_default();
                    });
                }
                Order::Stop => break,
            }
        }
        self.pool.close();
        self.peer.close();
        self.peer.shared.all_closed().await;
    }

    fn listen(self: &Rc<Self>, listening: Listening) {
        let worker = Rc::clone(self);
        match listening {
            Listening::Outbound(listener, door) => {
                let deal = move |socket, permit| worker.deal(socket, Kind::Outbound(door.clone()), permit);
                spawn_local(listener::accept_local(listener, self.bounds("outbound"), deal));
            }
            Listening::Inbound(listener) => {
                let deal = move |(socket, peer), permit| worker.deal(Stream::Tcp(socket), Kind::Inbound(peer), permit);
                let task = spawn_local(listener::accept_tcp(listener, self.bounds("inbound"), deal));
                *self.inbound.borrow_mut() = Some(task);
            }
        }
    }

    fn bounds(&self, name: &'static str) -> Bounds {
        Bounds { name, limit: self.common.config.limits.connections, metrics: Arc::clone(&self.common.metrics) }
    }

    /// Gives each worker its turn, this one without a detour.
    fn deal(self: &Rc<Self>, socket: Stream, kind: Kind, permit: Permit) {
        let turn = self.next.get();
        self.next.set((turn + 1) % self.all.len());
        if turn == self.index {
            return self.serve(socket, kind, permit);
        }
        match socket.detach() {
            Ok(socket) => {
                // A worker that has ended drops the connection: the process is stopping.
                self.all[turn].send(Order::Serve(Connection { socket, kind, permit })).unwrap_or_default();
            }
            Err(error) => tracing::warn!(%error, "an accepted connection cannot be handed over"),
        }
    }

    fn serve(&self, socket: Stream, kind: Kind, permit: Permit) {
        match (kind, socket) {
            (Kind::Outbound(Some(door)), socket) => match door.protocol {
                Protocol::Http => Rc::clone(&self.http).serve(socket, Some(door), permit),
                Protocol::Tcp => Rc::clone(&self.tcp).serve(socket, door, permit),
                Protocol::Thrift => Rc::clone(&self.thrift).serve(socket, door, permit),
            },
            (Kind::Outbound(None), socket) => Rc::clone(&self.http).serve(socket, None, permit),
            (Kind::Inbound(peer), Stream::Tcp(socket)) => {
                spawn_local(Rc::clone(&self.peer).serve(socket, peer, permit));
            }
            // Sidecars reach each other by TCP alone.
            (Kind::Inbound(_), Stream::Unix(_) | Stream::Tls(_)) => {}
        }
    }
}
