//! Real programs in a Debian root: they work, and go on across a checkpoint and a restore with what they had.

use hostler_tests::container::{self, Oci, Place};
use hostler_tests::{Output, PATIENCE, until, until_gone, with_each_oci_runtime};

with_each_oci_runtime! {
    nginx,
    redis,
    postgresql,
    a_python_job,
}

struct Debian {
    place: Place,
    root: String,
    checkpoints: bool,
}

impl Debian {
    /// With CRIU where there is one for this OCI runtime.
    fn start(oci: Oci) -> Option<Self> {
        let root = container::debian()?.display().to_string();
        let (place, checkpoints) = match oci.start_with_criu() {
            Some(place) => (place, true),
            None => (oci.start(), false),
        };
        Some(Self { place, root, checkpoints })
    }

    fn run(&self, options: &[&str], command: &[&str]) -> Output {
        let name = self.place.oci().name;
        let first =
            ["run", "--oci-runtime", name, "--rootfs", &self.root, "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/run"];
        self.place.cli(&[&first, options, &["--"], command].concat())
    }

    /// Waits until the program answers.
    fn ready(&self, name: &str, command: &[&str], words: &str) {
        let command = [&["exec", name, "--"], command].concat();
        until(&format!("an answer of {name}"), PATIENCE, || {
            let done = self.place.cli(&command);
            (done.code == 0 && done.out().contains(words)).then_some(())
        });
    }

    fn ask(&self, name: &str, command: &[&str]) -> String {
        self.place.cli(&[&["exec", name, "--"], command].concat()).ok()
    }

    /// Ends the container by a checkpoint and goes on from it; twice. Whether it could.
    fn through_a_checkpoint(&self, name: &str) -> bool {
        if !self.checkpoints {
            return false;
        }
        for round in ["first", "second"] {
            let pid = self.place.main_pid(name);
            self.place.cli(&["checkpoint", "create", "--exit", "--tcp-established", name, round]).ok();
            until_gone(pid);
            self.place.cli(&["start", "--checkpoint", round, name]).ok();
            self.place.main_pid(name);
            self.place.cli(&["checkpoint", "rm", round]).ok();
        }
        true
    }
}

fn nginx(oci: Oci) {
    let Some(debian) = Debian::start(oci) else { return };
    let site = debian.place.work().join("site");
    std::fs::create_dir(&site).expect("a directory");
    // Its workers are root as well: CRIU may not ask for the limits of others' processes without CAP_SYS_RESOURCE.
    let config = "daemon off; user root; worker_processes 2; pid /tmp/pid; error_log stderr;\n\
        events { worker_connections 64; }\n\
        http { access_log /dev/stdout; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f;\n\
        uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s; server { listen 127.0.0.1:8080; root /data; } }\n";
    std::fs::write(site.join("nginx.conf"), config).expect("a configuration");
    std::fs::write(site.join("index.html"), "hello from nginx\n").expect("a page");
    let volume = format!("{}:/data:ro", site.display());
    debian
        .run(
            &["-d", "--name", "web", "--volume", &volume, "--tmpfs", "/var/log/nginx"],
            &["nginx", "-c", "/data/nginx.conf"],
        )
        .ok();
    let get =
        ["python3", "-c", "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/').read().decode())"];
    debian.ready("web", &get, "hello from nginx");
    if debian.through_a_checkpoint("web") {
        assert!(debian.ask("web", &get).contains("hello from nginx"));
    }
    until("the log of both runs", PATIENCE, || debian.place.log_of("web").contains("GET / HTTP").then_some(()));
    // It ends as it does on a machine.
    debian.place.cli(&["stop", "web"]).ok();
    assert_eq!(debian.place.ended("web").exit_code, Some(0));
    debian.place.finish();
}

fn redis(oci: Oci) {
    let Some(debian) = Debian::start(oci) else { return };
    debian.run(&["-d", "--name", "kv", "--tmpfs", "/data"], &["redis-server", "--save", "", "--dir", "/data"]).ok();
    debian.ready("kv", &["redis-cli", "ping"], "PONG");
    assert_eq!(debian.ask("kv", &["redis-cli", "set", "key", "only in memory"]), "OK");
    if debian.through_a_checkpoint("kv") {
        assert_eq!(debian.ask("kv", &["redis-cli", "get", "key"]), "only in memory");
        assert_eq!(debian.ask("kv", &["redis-cli", "incr", "count"]), "1");
    }
    debian.place.cli(&["stop", "kv"]).ok();
    assert_eq!(debian.place.ended("kv").exit_code, Some(0));
    debian.place.finish();
}

fn postgresql(oci: Oci) {
    let Some(debian) = Debian::start(oci) else { return };
    // PostgreSQL refuses to be root, and without CAP_SYS_RESOURCE, CRIU may not ask for the limits of others' processes. So
    // here it is root who is told that he is not.
    let shim = debian.place.work().join("shim");
    std::fs::create_dir(&shim).expect("a directory");
    let source = shim.join("postgres.c");
    std::fs::write(&source, "int geteuid(void) { return 990; }\nint getuid(void) { return 990; }\n").expect("a source");
    let mut cc = std::process::Command::new("cc");
    cc.args(["-shared", "-fPIC", "-nostdlib", "-o"]).arg(shim.join("postgres.so")).arg(&source);
    assert!(cc.status().is_ok_and(|status| status.success()), "cc, which cargo needs as well");
    let script = "export PATH=$PATH:/usr/lib/postgresql/15/bin; chown postgres /data && \
                  setpriv --reuid 990 --regid 990 --clear-groups initdb -D /data/db -A trust --no-sync --no-locale >/dev/null && \
                  LD_PRELOAD=/srv/shim/postgres.so exec postgres -D /data/db -k /tmp -h '' -c jit=off -c fsync=off \
                  -c shared_buffers=16MB -c autovacuum=off";
    let volume = format!("{}:/srv/shim:ro", shim.display());
    let options = ["-d", "--name", "db", "--tmpfs", "/data", "--tmpfs", "/srv", "--volume", &volume];
    debian.run(&options, &["bash", "-c", script]).ok();
    let psql = |sql: &str| {
        ["/usr/lib/postgresql/15/bin/psql", "-U", "postgres", "-h", "/tmp", "-d", "postgres", "-tAc", sql]
            .map(str::to_owned)
    };
    let ask = |sql: &str| {
        let words = psql(sql);
        debian.ask("db", &words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let words = psql("select 6 * 7");
    debian.ready("db", &words.iter().map(String::as_str).collect::<Vec<_>>(), "42");
    ask("create table t as select generate_series(1, 1000) as x");
    if debian.through_a_checkpoint("db") {
        assert_eq!(ask("select sum(x) from t"), "500500");
        ask("insert into t values (500)");
        assert_eq!(ask("select sum(x) from t"), "501000");
    }
    debian.place.cli(&["stop", "-s", "INT", "db"]).ok();
    assert_eq!(debian.place.ended("db").exit_code, Some(0));
    debian.place.finish();
}

fn a_python_job(oci: Oci) {
    let Some(debian) = Debian::start(oci) else { return };
    let job = "import json, os, sqlite3, subprocess, sys, threading\n\
        data = json.load(sys.stdin)\n\
        base = sqlite3.connect('/tmp/base'); base.execute('create table t (x)')\n\
        base.executemany('insert into t values (?)', [(x,) for x in data['numbers']])\n\
        threads = [threading.Thread(target=lambda: None) for _ in range(8)]\n\
        [thread.start() for thread in threads]; [thread.join() for thread in threads]\n\
        child = subprocess.run(['sh', '-c', 'exit 3'])\n\
        print(json.dumps({'sum': base.execute('select sum(x) from t').fetchone()[0], 'child': child.returncode}))\n\
        sys.exit(7)\n";
    let script = debian.place.work().join("job.py");
    std::fs::write(&script, job).expect("a script");
    let volume = format!("{}:/job.py:ro", script.display());
    let root = debian.root.clone();
    // The shared root has no place for a single file but what a tmpfs gives.
    let volume = volume.replace(":/job.py:", ":/srv/job.py:");
    let command = [
        "run",
        "-i",
        "--oci-runtime",
        oci.name,
        "--rootfs",
        &root,
        "--read-only",
        "--tmpfs",
        "/tmp",
        "--tmpfs",
        "/srv",
        "--volume",
        &volume,
        "--memory",
        "200M",
        "--",
        "python3",
        "/srv/job.py",
    ];
    let done = debian.place.command(&command).stdin(r#"{"numbers": [1, 2, 39]}"#).run().code(7);
    assert_eq!(done.out().trim(), r#"{"sum": 42, "child": 3}"#, "{}", done.err());
    // What a program wrote in its memory goes on counting in another run.
    if debian.checkpoints {
        let count = "import time\ni = 0\nwhile True:\n    i += 1\n    print(i, flush=True)\n    time.sleep(0.02)\n";
        debian.run(&["-d", "--name", "count"], &["python3", "-c", count]).ok();
        until("a count", PATIENCE, || debian.place.log_of("count").contains("5\n").then_some(()));
        debian.through_a_checkpoint("count");
        let lines =
            || debian.place.log_of("count").lines().filter_map(|line| line.parse::<u32>().ok()).collect::<Vec<_>>();
        let before = lines().len();
        until("it goes on", PATIENCE, || (lines().len() > before + 3).then_some(()));
        let all = lines();
        assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1) || oci.name.is_empty(), "{all:?}");
    }
    debian.place.finish();
}
