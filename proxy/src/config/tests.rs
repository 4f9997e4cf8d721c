use std::{collections::BTreeSet, io::Write};

use super::{
    keys::{KEYS, LISTS},
    *,
};

/// A file that passes: what cases add to.
const BASE: &str = "registry = \"etcd://10.0.0.5:2379\"\nidentity = \"/id\"\nservice = \"orders\"\n";

#[derive(Default)]
struct Given<'a> {
    file: Option<&'a str>,
    variables: &'a [(&'a str, &'a str)],
    flags: &'a [(&'static str, &'a str)],
}

impl Given<'_> {
    fn load(&self) -> Result<Loaded, Vec<String>> {
        let file = self.file.map(|text| {
            let mut file = tempfile::NamedTempFile::new().expect("file");
            file.write_all(text.as_bytes()).expect("write");
            file
        });
        let pairs = |(name, text): &(&str, &str)| (OsString::from(name), OsString::from(text));
        let inputs = Inputs {
            file: file.as_ref().map(|file| file.path().to_owned()),
            environment: self.variables.iter().map(pairs).collect(),
            flags: self.flags.iter().map(|(flag, text)| (*flag, OsString::from(text))).collect(),
            command: Vec::new(),
        };
        load(inputs).map_err(|problems| {
            // The file's name is another each time.
            let name = file.as_ref().map_or_else(String::new, |file| format!("{}:", file.path().display()));
            let lines = problems.to_string();
            lines.lines().map(|line| line.strip_prefix(&name).unwrap_or(line).to_owned()).collect()
        })
    }
}

fn file(text: &str) -> Result<Loaded, Vec<String>> {
    Given { file: Some(text), ..Given::default() }.load()
}

/// Problems of [`BASE`] with this added.
fn problems(added: &str) -> Vec<String> {
    file(&format!("{BASE}{added}")).map(|loaded| loaded.config).expect_err(added)
}

/// One problem, of which this is a part.
fn check(added: &str, part: &str) {
    let found = problems(added);
    assert!(found.len() == 1 && found[0].contains(part), "{added}\nexpected: {part}\nfound: {found:#?}");
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let given = Given {
        file: Some("registry = \"static\"\ninsecure = true\nworkers = 2\n[listen]\nadmin = \"127.0.0.1:1\"\n"),
        variables: &[
            ("PILLION_WORKERS", "3"),
            ("PILLION_ADMIN", "127.0.0.1:2"),
            ("PILLION_TIMEOUTS_APP_CONNECT", "5s"),
            ("PILLION_PREFETCH", "a,b"),
            ("PILLION_SERVICE", ""),
            ("PILLION_OUTBOUND_URL", "http://127.0.0.1:4140"),
            ("PATH", "/bin"),
        ],
        flags: &[("--workers", "4")],
    };
    let loaded = given.load().expect("loads");
    let config = &loaded.config;
    assert_eq!(config.workers, 4);
    assert_eq!(config.listen.admin.port(), 2);
    assert_eq!(config.timeouts.app_connect, Duration::from_secs(5));
    assert_eq!(config.prefetch.len(), 2);
    assert_eq!(config.service, None, "an empty variable is not set");
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let json = loaded.to_json();
    assert_eq!(json["config"]["workers"], 4);
    assert_eq!(json["config"]["timeouts"]["app_connect"], "5s");
    assert_eq!(json["sources"]["workers"], "--workers");
    assert_eq!(json["sources"]["listen.admin"], "PILLION_ADMIN");
    assert_eq!(json["sources"]["retry.max"], "default");
    assert!(json["sources"]["insecure"].as_str().expect("text").ends_with(":2:1"), "{json:#}");
}

#[test]
fn every_key_has_one_variable_and_every_variable_one_key() {
    let variables: BTreeSet<String> = all_keys().map(|(_, _, variable)| variable).collect();
    assert_eq!(variables.len(), KEYS.len());
    assert!(OTHER_VARIABLES.iter().all(|other| !variables.contains(*other)));
    assert!(variables.contains("PILLION_OUTBOUND") && variables.contains("PILLION_LISTEN_ALLOW_REMOTE"));
}

#[test]
fn a_variable_that_is_no_key_is_a_warning_with_the_likely_name() {
    let given = Given { file: Some(BASE), variables: &[("PILLION_WORKER", "3")], ..Given::default() };
    let warnings = given.load().expect("loads").warnings;
    assert_eq!(warnings, ["variable PILLION_WORKER is not known and was ignored, did you mean `PILLION_WORKERS`?"]);
}

#[test]
fn unknown_keys_are_refused_with_line_column_and_the_likely_key() {
    check("regsitry = \"static\"\n", "4:1: unknown key `regsitry`, did you mean `registry`?");
    check("[timeouts]\nconect = \"1s\"\n", "5:1: unknown key `timeouts.conect`, did you mean `timeouts.connect`?");
    check("[timeout]\n", "4:2: unknown key `timeout`, did you mean `timeouts`?");
    check("connect = \"1s\"\n", "4:1: unknown key `connect`, did you mean `timeouts.connect`?");
    check(
        "[timeouts]\n  app-idle = \"1s\"\n",
        "5:3: unknown key `timeouts.app-idle`, did you mean `timeouts.app_idle`?",
    );
    check("listen.outbond = \"127.0.0.1:1\"\n", "4:8: unknown key `listen.outbond`, did you mean `listen.outbound`?");
    check("zzz = 1\n", "4:1: unknown key `zzz`");
    check(
        "[[outbound]]\nlisten = \"127.0.0.1:1\"\nservice = \"a\"\nversoin = \"2\"\n",
        "7:1: unknown key `outbound.versoin`, did you mean `version`?",
    );
    assert!(!problems("zzz = 1\n")[0].contains("did you mean"));
}

#[test]
fn wrong_values_are_refused_where_they_stand() {
    check("workers = 0\n", "4:11: workers: 0 is out of range: between 1 and 256");
    check("workers = \"2\"\n", "4:11: workers: a number is expected, not a string");
    check("workers = -1\n", "`-1` is not a whole number");
    check("insecure = \"no\"\n", "4:12: insecure: true or false is expected, not a string");
    check("timeouts.drain = 30\n", "a duration in quotes such as \"500ms\" or \"10s\" is expected, not an integer");
    check("timeouts.drain = \"30\"\n", "write 30s or 30ms");
    check("limits.header_bytes = \"64KB\"\n", "did you mean `64KiB`?");
    check("limits.header_bytes = 1048576\n", "1MiB is out of range: between 1KiB and 64KiB");
    check("version = \"one two\"\n", "4:11: version: ");
    check("app = \"127.0.0.1:8080\"\n", "write http://HOST:PORT");
    check("prefetch = [\"good\", \"Bad Name\"]\n", "4:21: prefetch: ");
    check("prefetch = \"a\"\n", "a list of strings such as [\"a\", \"b\"] is expected");
    check("timeouts = 1\n", "4:1: `timeouts` is a section, not an integer: write [timeouts]");
    check("[outbound]\nlisten = \"127.0.0.1:1\"\n", "`outbound` is a list of tables, not a table: write [[outbound]]");
    check("[[outbound]]\nlisten = \"127.0.0.1:1\"\n", "4:1: this entry of [[outbound]] lacks `service`");
    check("log.level = \"inof\"\n", "did you mean `info`?");
}

#[test]
fn everything_wrong_is_named_at_once_in_the_order_of_the_file() {
    let found = problems(
        "workers = 0\nregsitry = \"x\"\ninsecure = true\n[timeouts]\ndrain = 5\nconect = \"1s\"\n[[outbound]]\nservice = \"?\"\n",
    );
    let starts: Vec<&str> = found.iter().map(|line| line.split_once(": ").expect("a place").0).collect();
    assert_eq!(starts, ["4:11", "5:1", "6:1", "8:9", "9:1", "10:1", "11:11"], "{found:#?}");
}

#[test]
fn broken_toml_is_refused_with_its_place() {
    check("workers = \n", "4:11: ");
    check("workers = 1\nworkers = 2\n", "5:1: ");
    let found = problems("[log\nlevel = \"debug\"\nworkers = 0\n");
    assert!(found[0].starts_with("4:"), "{found:#?}");
}

#[test]
fn variables_and_flags_are_named_when_they_are_wrong() {
    let given = Given {
        file: Some(BASE),
        variables: &[("PILLION_WORKERS", "many"), ("PILLION_LOG_ACCESS", "on")],
        flags: &[("--outbound", "4140")],
    };
    let found = given.load().map(|loaded| loaded.config).expect_err("refused");
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found.iter().any(|line| line.starts_with("PILLION_WORKERS: `many` is not a whole number")));
    assert!(found.iter().any(|line| line.starts_with("PILLION_LOG_ACCESS: `on` is neither")));
    assert!(found.iter().any(|line| line.starts_with("--outbound: `4140` is not an address")));
}

#[test]
fn contradictions() {
    check("insecure = true\n", "4:1: `identity` and `insecure` exclude each other");
    check("[listen]\nadvertise = \"10.0.0.1:4143\"\n", "5:1: an address is advertised for an app, but no `app`");
    let app = "app = \"http://127.0.0.1:8080\"\n";
    check(&format!("{app}[listen]\nadvertise = \"0.0.0.0:4143\"\n"), "cannot be advertised");
    check("[listen]\noutbound = \"0.0.0.0:4140\"\n", "5:1: `listen.outbound` on 0.0.0.0:4140 could be reached");
    check("[listen]\nadmin = \"10.0.0.7:4191\"\n", "listen.allow_remote = true");
    check("[[outbound]]\nlisten = \"0.0.0.0:9001\"\nservice = \"a\"\n", "4:1: the door to `a` on 0.0.0.0:9001");
    for (keys, message) in [
        ("host = \"10.0.0.1\"", "4:1: `10.0.0.1` is no name of a host outside"),
        ("host = \"localhost\"", "4:1: `localhost` is no name of a host outside"),
        ("host = \"a.example\"\n[[egress]]\nhost = \"A.example\"", "6:1: `a.example` is listed already"),
        ("host = \"a.example\"\nca = \"/ca.pem\"\ntls = false", "4:1: `ca` is for hosts that TLS is spoken with"),
        ("port = 443", "4:1: this entry of [[egress]] lacks `host`"),
    ] {
        check(&format!("[[egress]]\n{keys}\n"), message);
    }
    for place in ["http://127.0.0.1:4140", "http://localhost:4191", "h2c://127.0.0.1:4143"] {
        check(&format!("app = \"{place}\"\n"), &format!("4:1: {place} is this sidecar itself"));
    }
    check("[listen]\nadmin = \"127.0.0.1:4140\"\n", "5:1: `listen.admin` listens on 127.0.0.1:4140, where");
    check("[listen]\noutbound = \"127.0.0.1:4143\"\n", "where `listen.inbound` listens already");
    check("[listen]\noutbound = \"[::1]:4191\"\ninbound = \"[::]:4191\"\nadmin = \"127.0.0.1:1\"\n", "listens already");
    check(
        "[[outbound]]\nlisten = \"127.0.0.1:1\"\nservice = \"a\"\n[[outbound]]\nlisten = \"127.0.0.1:1\"\nservice = \"b\"\n",
        "7:1: the door to `b` listens on 127.0.0.1:1, where the door to `a` listens already",
    );
    check(
        "[listen]\noutbound = \"unix:/a\"\n[[outbound]]\nlisten = \"unix:/a\"\nservice = \"b\"\n",
        "6:1: the door to `b` listens on unix:/a, where `listen.outbound` listens already",
    );
    check("descriptors = \"x.pb\"\n", "4:1: descriptors are given for an app, but no `app` is given");
    check(&format!("{app}descriptors = \"reflection\"\n"), "5:1: descriptors are for an app that speaks gRPC");
    let both = "app = \"h2c://127.0.0.1:1\"\napp_jsonrpc = \"/rpc\"\ndescriptors = \"x.pb\"\n";
    check(both, "6:1: `descriptors` and `app_jsonrpc` exclude each other");
    check("[timeouts]\nresponse = \"500ms\"\n", "`timeouts.response` would always pass before `timeouts.connect`");
    check("[etcd]\ncert = \"c\"\n", "needs its `etcd.key`");
    check("[etcd]\ncert = \"c\"\nkey = \"k\"\n", "5:1: TLS to etcd needs `etcd.ca`");
    check(
        "prefetch = [\"a\", \"b\"]\nlimits.services = 1\n",
        "4:1: 2 services are more than `limits.services` allows: 1",
    );
    check("limits.services = 4097\n", "limits.services");
    check("[[endpoint]]\nservice = \"a\"\naddress = \"10.0.0.1:1\"\n", "[[endpoint]] is for `registry = \"static\"`");
}

#[test]
fn contradictions_without_identity() {
    let check = |text: &str, part: &str| {
        let found = file(text).map(|loaded| loaded.config).expect_err(text);
        assert!(found.len() == 1 && found[0].contains(part), "{text}\nexpected: {part}\nfound: {found:#?}");
    };
    check("insecure = true\n", "configuration: no `registry` is given");
    check("registry = \"static\"\n", "--insecure");
    check("registry = \"etcd://h?tls=true\"\ninsecure = true\n", "1:1: TLS to etcd needs `etcd.ca`");
    check("registry = \"static\"\ninsecure = true\napp = \"http://a:1\"\n", "no service name");
    check("registry = \"static\"\ninsecure = true\n[etcd]\nca = \"x\"\n", "4:1: `etcd.ca` is for an etcd:// registry");
    let endpoint = "[[endpoint]]\nservice = \"a\"\naddress = \"10.0.0.1:1\"\n";
    check(&format!("registry = \"static\"\ninsecure = true\n{endpoint}{endpoint}"), "6:1: 10.0.0.1:1 of `a` is listed");
}

#[test]
fn what_may_be_said_together() {
    for fine in [
        "[listen]\noutbound = \"0.0.0.0:4140\"\nallow_remote = true\n",
        "[listen]\noutbound = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\ninbound = \"0.0.0.0:0\"\n",
        "[listen]\noutbound = \"127.0.0.2:4191\"\n",
        "[timeouts]\nresponse = \"0s\"\n",
        "app = \"h2c://[::1]:80\"\ndescriptors = \"reflection\"\n",
        "app = \"h2c+unix:/run/app.sock\"\ndescriptors = \"x.pb\"\n",
        "app = \"http://[::1]:80\"\nlisten.advertise = \"10.0.0.1:4143\"\n",
    ] {
        file(&format!("{BASE}{fine}")).expect(fine);
    }
}

#[test]
fn files_that_cannot_be_read_are_refused_whole() {
    let missing = load(Inputs { file: Some("/does/not/exist.toml".into()), ..Inputs::default() }).expect_err("missing");
    assert!(missing.to_string().contains("/does/not/exist.toml: cannot be read"), "{missing}");
    let mut latin = tempfile::NamedTempFile::new().expect("file");
    latin.write_all(b"# fine\n# caf\xe9\n").expect("write");
    let wrong = load(Inputs { file: Some(latin.path().to_owned()), ..Inputs::default() }).expect_err("latin");
    assert!(wrong.to_string().contains(":2:6: is not UTF-8"), "{wrong}");
    let large = file(&" ".repeat(1024 * 1024 + 1)).map(|loaded| loaded.config).expect_err("large");
    assert!(large[0].contains("is larger than"), "{large:?}");
}

#[test]
fn a_file_full_of_mistakes_is_refused_in_bounded_space() {
    let found = file(&"[[outbound]]\nx = 1\n".repeat(9_999)).map(|loaded| loaded.config).expect_err("refused");
    assert_eq!(found.len(), 100);
    let deep = format!("prefetch = {}", "[".repeat(100_000));
    assert!(file(&deep).is_err());
    let doors = |count: u16| -> String {
        let door = |port| format!("[[outbound]]\nlisten = \"127.0.0.1:{port}\"\nservice = \"a\"\n");
        (10_000..10_000 + count).map(door).collect()
    };
    let many = file(&format!("{BASE}{}", doors(10_000))).expect("as many doors as there may be");
    assert_eq!(many.config.outbound.len(), 10_000);
}

#[test]
fn secrets_are_masked_when_shown() {
    let loaded = Given {
        flags: &[("--registry", "etcd://root:hunter2@10.0.0.5:2379"), ("--identity", "/id")],
        ..Given::default()
    };
    let loaded = loaded.load().expect("loads");
    let shown = format!("{:#} {loaded:?}", loaded.to_json());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("10.0.0.5:2379"), "{shown}");
    let wrong = Given { flags: &[("--registry", "etcd://root:hunter2@10.0.0.5:bad")], ..Given::default() };
    let wrong = wrong.load().map(|loaded| loaded.config).expect_err("refused").join("\n");
    assert!(!wrong.contains("hunter2"), "{wrong}");
}

#[test]
fn app_addresses() {
    for (text, shown) in [
        ("http://127.0.0.1:8080", Some("http://127.0.0.1:8080")),
        ("http://localhost:80/", Some("http://localhost:80")),
        ("http://[::1]:80", Some("http://[::1]:80")),
        ("tcp://127.0.0.1:6379", Some("tcp://127.0.0.1:6379")),
        ("tcp://[::1]:5432", Some("tcp://[::1]:5432")),
        ("unix:/run/app.sock", Some("unix:/run/app.sock")),
        ("unix:///run/app.sock", Some("unix:/run/app.sock")),
        ("http+unix:/run/app.sock", Some("unix:/run/app.sock")),
        ("h2c+unix:/run/app.sock", Some("h2c+unix:/run/app.sock")),
        ("tcp+unix:/run/pg/.s.PGSQL.5432", Some("tcp+unix:/run/pg/.s.PGSQL.5432")),
        ("unix:run/app.sock", None),
        ("unix://run/app.sock", None),
        ("unix:/run/", None),
        ("ftp+unix:/run/app.sock", None),
        ("h2cunix:/run/app.sock", None),
        (LONG, None),
        ("thrift://127.0.0.1:9090/", Some("thrift://127.0.0.1:9090")),
        ("thrift+unix:/run/app.sock", Some("thrift+unix:/run/app.sock")),
        ("thrift+http://127.0.0.1:9090", None),
        ("https://a:1", None),
        ("a:1", None),
        ("http://a", None),
        ("http://a:0", None),
        ("http://a:1/path", None),
        ("http://user@a:1", None),
        ("http://:1", None),
        ("http://[a]:1", None),
        ("http://a b:1", None),
    ] {
        let parsed = text.parse::<AppAddress>().ok().map(|address| address.to_string());
        assert_eq!(parsed.as_deref(), shown, "{text}");
    }
}

/// A path that no socket can have.
const LONG: &str = "unix:/0123456789012345678901234567890123456789/0123456789012345678901234567890123456789/012345678901234567890123456789";

#[test]
fn hosts_outside_stand_in_the_order_of_their_names_each_with_its_defaults() {
    let entries = "[[egress]]\nhost = \"b.example\"\ntls = false\n[[egress]]\nhost = \"A.example\"\nport = 8443\n";
    let egress = file(&format!("{BASE}{entries}")).expect("right").config.egress;
    let seen: Vec<_> = egress.iter().map(|entry| (entry.host.as_str(), entry.tls, entry.authority())).collect();
    let (a, b) = (("a.example", true, "a.example:8443".to_owned()), ("b.example", false, "b.example".to_owned()));
    assert_eq!(seen, [a, b]);
}

#[test]
fn doors_are_addresses_or_sockets() {
    for (text, shown, remote) in [
        ("127.0.0.1:1", Some("127.0.0.1:1"), false),
        ("localhost:1", Some("127.0.0.1:1"), false),
        ("0.0.0.0:1", Some("0.0.0.0:1"), true),
        ("unix:/run/out.sock", Some("unix:/run/out.sock"), false),
        ("/run/out.sock", None, false),
        (LONG, None, false),
    ] {
        let parsed = text.parse::<LocalAddress>().ok();
        assert_eq!(parsed.as_ref().map(ToString::to_string).as_deref(), shown, "{text}");
        assert_eq!(parsed.is_some_and(|address| address.is_remote()), remote, "{text}");
    }
    for (text, mode) in
        [("0660", Some(0o660)), ("600", Some(0o600)), ("0680", None), ("1777", None), ("rw", None), ("+66", None)]
    {
        assert_eq!(text.parse::<SocketMode>().ok().map(|mode| mode.0), mode, "{text}");
    }
}

const EXAMPLE: &str = include_str!("../../../config.example.toml");

/// Keys of the example without a default, shown live so that the file passes as it is.
const EXAMPLES: [&str; 4] = ["service", "app", "registry", "identity"];

/// The example with `#key = …` and `#[[…]]` made live, and its lists' registry.
fn uncommented() -> String {
    let live = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => rest.to_owned(),
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(live).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_passes_and_every_value_in_it_is_the_default() {
    let loaded = file(EXAMPLE).expect("passes as it is");
    let json = loaded.to_json();
    let defaults = Config::default();
    for key in KEYS {
        let live = json["sources"][key.path] != "default";
        let default = (key.show)(&defaults).filter(|_| key.path != "registry");
        if EXAMPLES.contains(&key.path) {
            assert!(live && default.is_none(), "{}", key.path);
        } else {
            assert_eq!(live, default.is_some(), "{} is live exactly if it has a default", key.path);
            assert_eq!((key.show)(&loaded.config), default, "{}", key.path);
        }
    }
    assert!(loaded.config.outbound.is_empty() && loaded.config.endpoint.is_empty());
}

#[test]
fn the_example_shows_every_key_and_each_explained() {
    let text = uncommented();
    let mut found = BTreeSet::new();
    let mut section = String::new();
    let mut explained = false;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_matches(['[', ']']));
        } else if line.starts_with('#') {
            explained = true;
        } else if let Some((name, _)) = line.split_once(" = ") {
            assert!(explained, "{section}{name} has no comment above it");
            found.insert(format!("{section}{name}"));
        } else {
            explained = false;
        }
    }
    let mut keys: BTreeSet<String> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    for list in LISTS {
        keys.extend(list.keys.iter().map(|key| format!("{}.{}", list.name, key.path)));
    }
    assert_eq!(found, keys);
    // What is commented out is well-formed too: all that can be wrong is that the lists are for another registry, and the descriptors for another app.
    let wrong = file(&text).map(|loaded| loaded.config).expect_err("both registries, both kinds of app");
    assert!(wrong.len() == 2 && wrong[0].contains("descriptors are for"), "{wrong:#?}");
    assert!(wrong[1].contains("[[endpoint]] is for"), "{wrong:#?}");
}

#[test]
fn the_document_names_every_key_flag_and_variable() {
    let document = include_str!("../../../docs/configuration.md");
    let rows: BTreeSet<Vec<String>> = document
        .lines()
        .filter(|line| line.starts_with("| `") && line.contains("`PILLION_"))
        .map(|line| {
            line.trim_matches('|').split('|').take(3).map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
        })
        .collect();
    let keys: BTreeSet<Vec<String>> = all_keys()
        .map(|(path, flag, variable)| vec![path.to_owned(), flag.unwrap_or("–").to_owned(), variable])
        .collect();
    let missing: Vec<_> = keys.difference(&rows).collect();
    let unknown: Vec<_> = rows.difference(&keys).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "not in docs: {missing:#?}\nonly in docs: {unknown:#?}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,200}", at in 0usize..4000) {
        let _ = file(&text);
        // The example with something in the middle of it.
        let at = EXAMPLE.char_indices().map(|(index, _)| index).nth(at).unwrap_or(0);
        let _ = file(&format!("{}{text}{}", &EXAMPLE[..at], &EXAMPLE[at..]));
    }
}
