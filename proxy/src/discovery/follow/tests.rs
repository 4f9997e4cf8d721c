//! The control thread's side over a registry that says what the test says, step by step and without a clock.

use registry::{BoxFuture, Cause, Endpoint, InstanceId, RegistryError, keys};

use super::*;

/// What is followed; everything else does nothing.
#[derive(Debug, Default)]
struct Followed(Mutex<BTreeSet<String>>);

impl Followed {
    fn names(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").iter().cloned().collect()
    }
}

impl Source for Followed {
    fn follow(&self, service: &ServiceName) {
        self.0.lock().expect("not poisoned").insert(service.to_string());
    }

    fn unfollow(&self, service: &ServiceName) {
        self.0.lock().expect("not poisoned").remove(service.as_str());
    }

    fn register(&self, _: Endpoint) {}

    fn withdraw(&self) -> BoxFuture<'_, Result<(), RegistryError>> {
        Box::pin(async { Ok(()) })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Endpoint>, RegistryError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn reconcile(&self) {}
}

struct Rig {
    state: State,
    source: Arc<Followed>,
    follower: Follower,
    // Kept so that asks and probes have somewhere to go.
    _inbox: Inbox,
}

/// Services that are not called are over at once, and so are look-ups that nobody answered.
fn rig(table: Table, config: impl FnOnce(&mut Config)) -> Rig {
    let mut all = Config::default();
    all.discovery.idle = Duration::ZERO;
    all.timeouts.first_answer = Duration::ZERO;
    config(&mut all);
    let (view, inbox) = View::new(all.timeouts.first_answer);
    let source = Arc::new(Followed::default());
    let (mut state, follower) =
        State::new(view, Arc::clone(&source) as Arc<dyn Source>, &table, Arc::new(all), Metrics::new());
    state.begin(table);
    Rig { state, source, follower, _inbox: inbox }
}

impl Rig {
    fn disconnected(&mut self) {
        self.state.changed(Change::Disconnected { error: "gone".to_owned() });
    }

    fn list(&mut self, service: &str, ports: &[u16], revision: u64) {
        let list = ports.iter().map(|port| endpoint(service, *port)).collect();
        self.state.changed(Change::Endpoints { service: name(service), list, revision, cause: Cause::Listed });
    }

    fn known(&self) -> Vec<String> {
        let mut known: Vec<String> =
            self.state.view.load().services().map(|service| service.name.to_string()).collect();
        known.sort();
        known
    }
}

fn name(text: &str) -> ServiceName {
    text.parse().expect("a name")
}

fn endpoint(service: &str, port: u16) -> Endpoint {
    let key = keys::parse_relative(&format!("{service}/1.0.0/10.0.0.7:{port}")).expect("a key");
    Endpoint::new(key, InstanceId::generate())
}

fn from_disk(at: SystemTime) -> Table {
    let table = ["pay", "stock"].iter().fold(Table::new(), |table, service| {
        table.apply(&name(service), vec![endpoint(service, 1)], 1, Cause::Listed, at)
    });
    Table::from_json(&table.to_json(at)).expect("a table")
}

#[test]
fn an_outage_forgets_no_endpoint_however_long_it_is() {
    let mut rig = rig(from_disk(SystemTime::now()), |_| ());
    rig.state.tick();
    assert_eq!(rig.known(), ["pay", "stock"], "the registry has not answered yet");
    rig.disconnected();
    rig.state.tick();
    assert_eq!(rig.known(), ["pay", "stock"], "nor now");
    assert_eq!(rig.source.names(), ["pay", "stock"]);
    assert_eq!(rig.state.save_at, None, "and the disk keeps them");

    rig.state.changed(Change::Connected);
    rig.state.tick();
    assert_eq!((rig.known(), rig.source.names()), (vec![], vec![]), "it could be learnt again: over");
    assert!(rig.state.save_at.is_some());
}

#[test]
fn an_outage_does_not_count_as_time_without_calls() {
    let idle = Duration::from_secs(600);
    let mut rig = rig(from_disk(SystemTime::now()), |config| config.discovery.idle = idle);
    // Not called for an hour, at the end of which the registry comes back.
    let back = Instant::now() + Duration::from_secs(3_600);
    rig.state.connected = Some(back);
    rig.state.drop_unused(back);
    assert_eq!(rig.known(), ["pay", "stock"]);
    rig.state.drop_unused(back + idle);
    assert_eq!(rig.known(), [""; 0]);
}

#[test]
fn an_early_call_to_a_prefetched_service_does_not_unfollow_it() {
    let mut rig = rig(Table::new(), |config| config.prefetch = vec![name("pay")]);
    let (answer, mut answered) = oneshot::channel();
    rig.state.asked(name("pay"), answer);
    let (other, _other) = oneshot::channel();
    rig.state.asked(name("stock"), other);
    rig.state.tick();
    assert_eq!(answered.try_recv(), Ok(Err(Refused::NoAnswer)), "the call is told");
    assert_eq!(rig.source.names(), ["pay"], "what is not prefetched is asked for anew by its next call");
    assert!(!*rig.follower.loaded.borrow());
    rig.list("pay", &[1], 7);
    assert!(*rig.follower.loaded.borrow(), "the registry came back: ready");
    assert_eq!(rig.known(), ["pay"]);
}

#[test]
fn a_table_from_disk_is_as_old_as_it_is_until_the_registry_answers() {
    const AGE: f64 = 10_800.0;
    let saved = SystemTime::now() - Duration::from_secs_f64(AGE);
    let mut rig = rig(from_disk(saved), |_| ());
    rig.disconnected();
    let age = rig.state.freshness.age_seconds();
    assert!((AGE..AGE + 60.0).contains(&age), "{age}");
    rig.state.changed(Change::Connected);
    assert_eq!(rig.state.freshness.age_seconds(), 0.0);
    rig.disconnected();
    let age = rig.state.freshness.age_seconds();
    assert!((0.0..60.0).contains(&age), "it was confirmed a moment ago: {age}");
    let mut empty = self::rig(Table::new(), |_| ());
    empty.disconnected();
    assert!(empty.state.freshness.age_seconds().is_nan(), "nothing was ever confirmed");
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

#[test]
fn an_ask_ends_though_the_control_thread_is_held_up() {
    // Nobody looks into the inbox.
    let (view, _inbox) = View::new(Duration::from_millis(1));
    let asking = async { tokio::time::timeout(Duration::from_secs(20), view.ask(name("pay"))).await };
    assert_eq!(block_on(asking), Ok(Err(Refused::NoAnswer)));
}

#[test]
fn a_disk_that_hangs_holds_nobody_up() {
    let dir = tempfile::tempdir().expect("dir");
    // Where the table is written first.
    let temporary = dir.path().join(format!(".table.json.{}.tmp", std::process::id()));
    nix::unistd::mkfifo(&temporary, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let mut config = Config::default();
    config.discovery.snapshot = Some(dir.path().join("table.json"));
    let (view, inbox) = View::new(Duration::from_secs(20));
    let (changes_in, changes) = mpsc::unbounded_channel();
    let source = Arc::new(Followed::default());
    let (_, following) = run(
        Arc::clone(&view),
        inbox,
        Arc::clone(&source) as Arc<dyn Source>,
        changes,
        Table::new(),
        Arc::new(Config { prefetch: vec![name("pay")], ..config }),
        Metrics::new(),
    );
    let list = |service: &str, endpoints: u16| Change::Endpoints {
        service: name(service),
        list: (1..=endpoints).map(|port| endpoint(service, port)).collect(),
        revision: 1,
        cause: Cause::Listed,
    };
    block_on(async {
        let asking = async {
            changes_in.send(list("pay", 2_000)).expect("it runs");
            // More than a pipe holds: once it is open, the writer waits in the middle.
            let reader = tokio::task::spawn_blocking(move || std::fs::File::open(temporary));
            let mut held = reader.await.expect("no panic").expect("the writer came");
            let asked = tokio::spawn({
                let view = Arc::clone(&view);
                async move { view.ask(name("stock")).await }
            });
            while !source.names().contains(&"stock".to_owned()) {
                tokio::task::yield_now().await;
            }
            changes_in.send(list("stock", 1)).expect("it runs");
            let answer = asked.await.expect("no panic");
            std::io::Read::read_to_end(&mut held, &mut Vec::new()).expect("the rest");
            answer
        };
        tokio::select! {
            answer = asking => assert_eq!(answer, Ok(())),
            () = following => {}
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("held up"),
        }
    });
}

/// A suspect one failed probe away from leaving, and its key.
fn doubted() -> (Rig, EndpointKey) {
    let mut rig = rig(Table::new(), |config| config.prefetch = vec![name("pay")]);
    rig.list("pay", &[1, 2], 1);
    rig.list("pay", &[], 2);
    let key = endpoint("pay", 1).key;
    let mut table = rig.state.view.load().table.clone();
    for ago in [60, 30] {
        let at = SystemTime::now() - Duration::from_secs(ago);
        let Probed::Counted(next) = table.probe_failed(&key, None, at) else { panic!("{ago} s ago") };
        table = next;
    }
    rig.state.publish(table);
    rig.state.save_at = None;
    (rig, key)
}

#[test]
fn a_suspect_that_leaves_is_not_on_the_disk_either() {
    let (mut rig, key) = doubted();
    assert_eq!(rig.state.metrics.table_suspect_endpoints.get(), 2);
    rig.state.probe_failed(&key);
    assert_eq!(rig.state.metrics.table_suspect_endpoints.get(), 1);
    assert!(rig.state.save_at.is_some());
}

#[test]
fn a_suspect_that_answered_meanwhile_stays() {
    let (mut rig, key) = doubted();
    let answered = clock::micros(Instant::now()).max(1);
    rig.state.view.load().endpoint(&key).expect("known").answered(answered, 5);
    rig.state.probe_failed(&key);
    assert_eq!(rig.state.metrics.table_suspect_endpoints.get(), 2);
    assert_eq!(rig.state.save_at, None);
}

#[test]
fn drift_is_counted_and_the_revision_is_the_newest_of_the_table() {
    let mut rig = rig(Table::new(), |config| config.prefetch = vec![name("pay"), name("stock")]);
    assert_eq!(rig.state.metrics.registry_drift.get(), 0);
    rig.state.changed(Change::Drifted { service: name("pay"), records: 3 });
    assert_eq!(rig.state.metrics.registry_drift.get(), 3);
    rig.list("pay", &[1], 9);
    rig.list("stock", &[1], 4);
    assert_eq!(rig.state.metrics.registry_revision.get(), 9);
}
