//! Configuration as a user meets it: each key has an effect, each mistake gives one line with place, key and fix.

#![allow(clippy::unwrap_used, reason = "test helpers; a panic is the failure report")]

use l4sd::config::{
    Call, Config, ConfigError, Context, KEYS, Limit, LogFormat, LogLevel, LookAhead, Policy, PortSpec, Sched,
    Settings,
};
use l4sd::control::policy::lookahead::Arm;
use l4sd::time::Span;
use l4sd::units::BitRate;

const SAMPLE: &str = include_str!("../docs/l4sd.toml.sample");
const LEAST: &str = "[left]\nport = \"mem:\"\n[right]\nport = \"mem:\"\n[link]\nrate = \"40Mbit\"\n";

fn config(text: &str) -> Result<Config, ConfigError> {
    Settings::from_toml(text, "l4sd.toml")?.validate()
}

fn error(text: &str) -> String {
    config(text).expect_err(text).to_string()
}

#[test]
fn two_ports_and_a_rate_are_enough() {
    let c = config(LEAST).unwrap();
    assert_eq!((&c.left, &c.right), (&PortSpec::Mem, &PortSpec::Mem));
    assert_eq!(c.link.rate, BitRate::from_mbps(40));
    assert_eq!(c.link.rate_right_to_left, BitRate::from_mbps(40));
    assert_eq!((c.link.overhead, c.link.mpu, c.link.limit, c.link.delay), (0, 0, None, Span::ZERO));
    assert_eq!((&c.aqm.policy, c.aqm.target, c.aqm.nqb), (&Policy::Model(None), None, false));
    assert_eq!(c.aqm.t_update, Span::from_millis(16));
    assert_eq!((c.control.shadow, c.control.core), (false, None));
    assert_eq!(c.control.t_expire, Span::from_millis(32));
    assert_eq!((c.runtime.cores.len(), c.runtime.sched, c.runtime.busy_poll), (0, Sched::Other, false));
    assert_eq!(c.metrics_listen.unwrap().to_string(), "127.0.0.1:9559");
    assert_eq!((c.log.format, c.log.level), (LogFormat::Text, LogLevel::Info));
}

#[test]
fn a_missing_requirement_names_flag_and_key() {
    for (drop, key, flag) in [
        ("[left]\nport = \"mem:\"\n", "left.port", "--left"),
        ("[right]\nport = \"mem:\"\n", "right.port", "--right"),
        ("rate = \"40Mbit\"\n", "link.rate", "--rate"),
    ] {
        let message = error(&LEAST.replace(drop, ""));
        assert!(message.starts_with(key) && message.contains(flag) && message.contains("put '"), "{message}");
    }
}

type Change = Box<dyn Fn(&mut Config)>;

/// Sets one key beside the required ones, each to something other than its default.
fn with(name: &str, value: &str) -> Config {
    let (section, leaf) = name.split_once('.').unwrap();
    let base: toml::Table = LEAST.parse().unwrap();
    let mut table = base.clone();
    let parsed: toml::Table = format!("v = {value}").parse().unwrap();
    let entry = table.entry(section).or_insert(toml::Value::Table(toml::Table::new()));
    entry.as_table_mut().unwrap().insert(leaf.to_owned(), parsed["v"].clone());
    config(&toml::to_string(&table).unwrap()).unwrap()
}

#[test]
fn each_key_changes_what_it_is_named_after_and_nothing_else() {
    let base = config(LEAST).unwrap();
    let cases: Vec<(&str, &str, Change)> = vec![
        (
            "link.rate_right_to_left",
            "\"10Mbit\"",
            Box::new(|c| c.link.rate_right_to_left = BitRate::from_mbps(10)),
        ),
        ("link.overhead", "-8", Box::new(|c| c.link.overhead = -8)),
        ("link.mpu", "84", Box::new(|c| c.link.mpu = 84)),
        ("link.limit", "\"100ms\"", Box::new(|c| c.link.limit = Some(Limit::Time(Span::from_millis(100))))),
        ("link.limit", "\"2MB\"", Box::new(|c| c.link.limit = Some(Limit::Bytes(2_000_000)))),
        ("link.delay", "\"10ms\"", Box::new(|c| c.link.delay = Span::from_millis(10))),
        ("aqm.policy", "\"codel\"", Box::new(|c| c.aqm.policy = Policy::Codel)),
        ("aqm.policy", "\"replay:x.csv\"", Box::new(|c| c.aqm.policy = Policy::Replay("x.csv".into()))),
        ("aqm.policy", "\"dualpi2-rules\"", Box::new(|c| c.aqm.policy = Policy::DualPi2Rules(None))),
        ("aqm.target", "\"20ms\"", Box::new(|c| c.aqm.target = Some(Span::from_millis(20)))),
        ("aqm.nqb", "true", Box::new(|c| c.aqm.nqb = true)),
        ("aqm.policy", "\"dualpi2\"", Box::new(|c| c.aqm.policy = Policy::DualPi2)),
        (
            "aqm.policy",
            "\"lookahead:arm=held:tick=1ms\"",
            Box::new(|c| {
                let tick = Span::from_millis(1);
                let setup = LookAhead { arm: Arm::Held, tick, call: Call::Measured, ..LookAhead::default() };
                c.aqm.policy = Policy::LookAhead(setup);
            }),
        ),
        ("aqm.policy", "\"model:a.onnx\"", Box::new(|c| c.aqm.policy = Policy::Model(Some("a.onnx".into())))),
        ("control.model", "\"m.onnx\"", Box::new(|c| c.control.model = Some("m.onnx".into()))),
        (
            "control.model_sha256",
            "\"0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef\"",
            Box::new(|c| {
                c.control.model_sha256 =
                    Some("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef".to_owned());
            }),
        ),
        ("control.onnxruntime", "\"ort.so\"", Box::new(|c| c.control.onnxruntime = Some("ort.so".into()))),
        ("control.context", "\"auto\"", Box::new(|c| c.control.context = Context::Auto)),
        ("control.context", "\"a.json\"", Box::new(|c| c.control.context = Context::File("a.json".into()))),
        ("control.shadow", "true", Box::new(|c| c.control.shadow = true)),
        ("control.core", "3", Box::new(|c| c.control.core = Some(3))),
        ("control.t_expire", "\"48ms\"", Box::new(|c| c.control.t_expire = Span::from_millis(48))),
        ("runtime.cores", "[2, 0]", Box::new(|c| c.runtime.cores = vec![2, 0])),
        ("runtime.sched", "\"fifo:40\"", Box::new(|c| c.runtime.sched = Sched::Fifo(40))),
        ("runtime.busy_poll", "true", Box::new(|c| c.runtime.busy_poll = true)),
        ("runtime.pidfile", "\"run/a.pid\"", Box::new(|c| c.runtime.pidfile = Some("run/a.pid".into()))),
        ("runtime.netmap_emulated", "true", Box::new(|c| c.runtime.netmap_emulated = true)),
        ("runtime.keeper", "\"/run/k\"", Box::new(|c| c.runtime.keeper = Some("/run/k".into()))),
        ("runtime.user", "\"nobody\"", Box::new(|c| c.runtime.user = Some("nobody".into()))),
        ("metrics.listen", "\"off\"", Box::new(|c| c.metrics_listen = None)),
        ("metrics.listen", "\"[::1]:1\"", Box::new(|c| c.metrics_listen = Some("[::1]:1".parse().unwrap()))),
        ("log.format", "\"json\"", Box::new(|c| c.log.format = LogFormat::Json)),
        ("log.level", "\"debug\"", Box::new(|c| c.log.level = LogLevel::Debug)),
    ];
    for (name, value, change) in &cases {
        let mut expected = base.clone();
        change(&mut expected);
        let got = with(name, value);
        assert_ne!(got, base, "{name} has no effect");
        assert_eq!(got, expected, "{name}");
        assert_ne!(got.fingerprint(), base.fingerprint(), "{name}");
    }
    // Two keys move a second value along, by design.
    let slow = with("aqm.t_update", "\"8ms\"");
    assert_eq!((slow.aqm.t_update, slow.control.t_expire), (Span::from_millis(8), Span::from_millis(16)));
    assert_eq!(slow.window(), Span::from_millis(8));
    let ahead = with("aqm.policy", "\"lookahead:tick=2ms\"");
    assert_eq!((ahead.aqm.t_update, ahead.window()), (Span::from_millis(16), Span::from_millis(2)));
    assert_eq!(ahead.aqm.policy.label(), "lookahead:arm=speculative:tick=2ms:bin=0.5", "a call is measured");
    let fast = with("link.rate", "\"12Mbit\"");
    assert_eq!(
        (fast.link.rate, fast.link.rate_right_to_left),
        (BitRate::from_mbps(12), BitRate::from_mbps(12))
    );
    let ports =
        config("[left]\nport = \"xdp:a\"\n[right]\nport = \"xdp:b\"\n[link]\nrate = \"40Mbit\"\n").unwrap();
    assert_eq!((ports.left, ports.right), (PortSpec::Xdp("a".into()), PortSpec::Xdp("b".into())));

    for key in KEYS {
        let apart = ["version", "left.port", "right.port", "link.rate", "aqm.t_update"];
        assert!(
            apart.contains(&key.name) || cases.iter().any(|c| c.0 == key.name),
            "{} is not tested",
            key.name
        );
    }
}

#[test]
fn flags_win_over_the_file_key_by_key() {
    let mut settings =
        Settings::from_toml(&format!("{LEAST}overhead = 24\n[aqm]\ntarget = \"20ms\"\n"), "f").unwrap();
    settings.merge(Settings {
        rate: Some(BitRate::from_mbps(7)),
        target: Some(Span::from_secs(2)),
        ..Settings::default()
    });
    let message = settings.clone().validate().unwrap_err().to_string();
    assert!(
        message.starts_with("aqm.target: 2s is out of range, 1ms to 1s;"),
        "no place of the old value: {message}"
    );
    settings.merge(Settings { target: Some(Span::from_millis(5)), ..Settings::default() });
    let c = settings.validate().unwrap();
    assert_eq!((c.link.rate, c.link.overhead), (BitRate::from_mbps(7), 24));
    assert_eq!(c.aqm.target, Some(Span::from_millis(5)));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of mistakes")]
fn every_mistake_names_place_key_and_fix() {
    for (extra, start, parts) in [
        (
            "[runtime]\nuser = \"a b\"\n",
            "l4sd.toml:8:8: runtime.user: no user can be called 'a b'",
            vec!["user = \"nobody\""],
        ),
        (
            "bogus = 1\n",
            "l4sd.toml:7:1: unknown key 'link.bogus'",
            vec!["[link] takes rate, rate_right_to_left, over"],
        ),
        (
            "[contrl]\ncore = 1\n",
            "l4sd.toml:7:2: unknown key 'contrl'",
            vec!["[left], [right], [link], [aqm]"],
        ),
        (
            "[control]\nmodels = \"m.onnx\"\n",
            "l4sd.toml:8:1: unknown key 'control.models'",
            vec!["context, shadow, core, t_expire"],
        ),
        (
            "[control]\ncontext = \"\"\n",
            "l4sd.toml:8:11: control.context: it names no file; 'none' and 'auto' are the other values",
            vec!["context = \"/usr/local/etc/l4sd/context.json\""],
        ),
        (
            "[aqm]\ntarget = 15\n",
            "l4sd.toml:8:10: aqm.target: invalid type: integer `15`",
            vec!["target = \"15ms\""],
        ),
        (
            "[aqm]\ntarget = \"15\"\n",
            "l4sd.toml:8:10: aqm.target: '15' has no unit",
            vec!["target = \"15ms\""],
        ),
        (
            "[aqm]\ntarget = \"999us\"\n",
            "l4sd.toml:8:10: aqm.target: 999us is out of range, 1ms to 1s",
            vec![],
        ),
        (
            "[aqm]\n  t_update = \"2s\"\n",
            "l4sd.toml:8:14: aqm.t_update: 2s is out of range, 1ms to 1s",
            vec![],
        ),
        (
            "[aqm]\npolicy = \"pie\"\n",
            "l4sd.toml:8:10: aqm.policy: there is no policy 'pie'",
            vec![Policy::NAMES],
        ),
        (
            "[aqm]\npolicy = \"lookahead:arm=instant\"\n",
            "l4sd.toml:8:10: aqm.policy: 'arm=instant' is of l4sd sim and l4sd eval only",
            vec!["use arm=speculative, held or drafter"],
        ),
        (
            "[aqm]\npolicy = \"lookahead:arm=held:call=8ms\"\n",
            "l4sd.toml:8:10: aqm.policy: 'call=8ms' is of l4sd sim and l4sd eval only",
            vec!["leave it out"],
        ),
        (
            "[aqm]\npolicy = \"lookahead:arm=held\"\n[control]\ncontext = \"auto\"\n",
            "l4sd.toml:10:11: control.context: it is of the policy model",
            vec![],
        ),
        (
            "[aqm]\npolicy = \"lookahead:arm=held\"\n[control]\nmodel_sha256 = \"00\"\n",
            "l4sd.toml:10:16: control.model_sha256: it is of the policy model",
            vec![],
        ),
        (
            "[aqm]\nnqb = \"yes\"\n",
            "l4sd.toml:8:7: aqm.nqb: invalid type: string \"yes\"",
            vec!["nqb = true"],
        ),
        ("mpu = -1\n", "l4sd.toml:7:7: link.mpu: -1 is out of range, 0 to 256", vec![]),
        ("overhead = 257\n", "l4sd.toml:7:12: link.overhead: 257 is out of range, -64 to 256", vec![]),
        ("overhead = -65\n", "l4sd.toml:7:12: link.overhead: -65 is out of range, -64 to 256", vec![]),
        (
            "limit = \"2Mbit\"\n",
            "l4sd.toml:7:9: link.limit: '2Mbit' is neither a time",
            vec!["limit = \"250ms\""],
        ),
        ("delay = \"11s\"\n", "l4sd.toml:7:9: link.delay: 11s is out of range", vec![]),
        (
            "[runtime]\ncores = [1, -2]\n",
            "l4sd.toml:8:9: runtime.cores: -2 is out of range, 0 to 1023",
            vec![],
        ),
        ("[runtime]\ncores = [1, 1]\n", "l4sd.toml:8:9: runtime.cores: core 1 is listed twice", vec![]),
        (
            "[runtime]\nsched = \"rr\"\n",
            "l4sd.toml:8:9: runtime.sched: 'rr' is neither",
            vec!["sched = \"fifo:40\""],
        ),
        (
            "[runtime]\npidfile = \"\"\n",
            "l4sd.toml:8:11: runtime.pidfile: it does not name a file",
            vec!["pidfile = \"/var/run/l4sd.pid\""],
        ),
        (
            "[metrics]\nlisten = \":9\"\n",
            "l4sd.toml:8:10: metrics.listen: ':9' is neither",
            vec!["127.0.0.1:9559"],
        ),
        (
            "[log]\nlevel = \"loud\"\n",
            "l4sd.toml:8:9: log.level: 'loud' is not one of",
            vec!["level = \"info\""],
        ),
        (
            "[log]\nformat = \"xml\"\n",
            "l4sd.toml:8:10: log.format: 'xml' is neither",
            vec!["format = \"json\""],
        ),
        ("rate = \"1Mbit\"\n", "l4sd.toml:7:1: not valid TOML: duplicate key", vec!["l4sd.toml.sample"]),
        ("[log\n", "l4sd.toml:7:5: not valid TOML: ", vec!["l4sd.toml.sample"]),
        ("[aqm]\npolicy = \"é\", x\n", "l4sd.toml:8:13: not valid TOML: ", vec![]),
    ] {
        let message = error(&format!("{LEAST}{extra}"));
        assert!(message.starts_with(start), "{extra:?}\n want {start}\n  got {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        for part in parts {
            assert!(message.contains(part), "{message}\n lacks {part}");
        }
    }
}

#[test]
fn mistakes_outside_a_section_name_their_place_as_well() {
    let message = error("link = 3\n");
    assert!(message.starts_with("l4sd.toml:1:8: unknown key 'link'; link is a section"), "{message}");
    let message = error(&format!("version = 2\n{LEAST}"));
    assert!(message.starts_with("l4sd.toml:1:11: version: version 2 is not known"), "{message}");
    let message = error(&LEAST.replace("40Mbit", "1bit"));
    assert!(
        message.starts_with("l4sd.toml:6:8: link.rate: '1bit' is out of range: a rate is 10kbit"),
        "{message}"
    );
}

#[test]
fn ports_must_go_together_and_be_there() {
    let ports = |left: &str, right: &str| {
        config(&format!(
            "[left]\nport = \"{left}\"\n[right]\nport = \"{right}\"\n[link]\nrate = \"40Mbit\"\n"
        ))
    };
    let e = ports("packet:a", "xdp:b").unwrap_err();
    assert_eq!(e.exit_code(), 78);
    assert!(
        e.to_string()
            .starts_with("l4sd.toml:4:8: left.port 'packet:a' and right.port 'xdp:b' are of different")
    );
    assert!(ports("packet:a", "packet:a").unwrap_err().to_string().contains("same port"));
    assert!(
        ports("eth0", "packet:a")
            .unwrap_err()
            .to_string()
            .starts_with("l4sd.toml:2:8: left.port: 'eth0' is not")
    );
    for (left, right) in [("netmap:em0", "netmap:em0"), ("netmap:em0^", "em0^"), ("vale0:1", "vale0:1/x")] {
        let message = ports(left, right).unwrap_err().to_string();
        assert!(message.contains("are the same port; a bridge needs two"), "{message}");
    }
    for (left, right) in [("netmap:em0", "em0^"), ("vale0:1", "vale0:2"), ("netmap:a{1", "netmap:a}1")] {
        ports(left, right).unwrap();
    }
    let message = ports("netmap:em0:1", "netmap:em1").unwrap_err().to_string();
    assert!(
        message.starts_with("l4sd.toml:2:8: left.port: 'netmap:em0:1' is not a netmap port: "),
        "{message}"
    );
}

#[test]
fn a_file_that_is_not_there_says_so() {
    let e = Settings::load(std::path::Path::new("no/such/l4sd.toml")).unwrap_err();
    assert!(e.to_string().starts_with("no/such/l4sd.toml: cannot read the configuration: "), "{e}");
    assert_eq!(e.exit_code(), 78);
}

#[test]
fn the_sample_parses_and_shows_every_key_with_a_working_value() {
    let shipped = config(SAMPLE).unwrap();
    let least = config(
        "[left]\nport = \"packet:eth0\"\n[right]\nport = \"packet:eth1\"\n[link]\nrate = \"40Mbit\"\n",
    )
    .unwrap();
    assert_eq!(shipped, least, "the sample as shipped sets nothing but what is required");

    let uncommented: String = SAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    config(&uncommented).unwrap();
    let table: toml::Table = uncommented.parse().unwrap();
    let mut seen = Vec::new();
    for (name, value) in &table {
        match value {
            toml::Value::Table(section) => seen.extend(section.keys().map(|leaf| format!("{name}.{leaf}"))),
            _ => seen.push(name.clone()),
        }
    }
    seen.sort();
    let mut all: Vec<_> = KEYS.iter().map(|k| k.name.to_owned()).collect();
    all.sort();
    assert_eq!(seen, all);
    for key in KEYS {
        let in_sample = uncommented
            .lines()
            .any(|l| l.split('#').next().unwrap_or("").trim() == format!("{} = {}", key.leaf(), key.example));
        assert!(in_sample, "the sample shows '{} = {}'", key.leaf(), key.example);
    }
}
