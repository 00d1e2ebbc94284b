//! Redis refuses requests: each process says so in its log, its metrics and its readiness, and takes
//! it back when Redis accepts requests again.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use signalbox_redis::{RedisCommand, redis_keys::RedisUser};
use signalbox_tests::net::free_address;
use signalbox_tests::{
    cluster::random_secret,
    http::Request,
    net::{eventually, eventually_within},
    process::{EXIT_LIMIT, Process, run_to_exit},
    redis_security::RedisSecurity,
    redis_sentinel::TestSentinel,
    redis_server::RedisServer,
};

/// The longest time between two full checks, and a check.
const NOTICE_LIMIT: Duration = Duration::from_secs(15);

all_of! {
    /// Why Redis refuses requests.
    Cause { DiskFails, ReplicaMissing, MemoryUsedUp, ScriptCommandForbidden, CommandForbidden, KeyForbidden, PasswordChanged, PasswordRequired, ServerBusy, BecomesReplica, DataLoads, SlotUnserved }
}

impl Cause {
    fn code(self) -> &'static str {
        match self {
            Self::DiskFails => "MISCONF",
            Self::ReplicaMissing => "NOREPLICAS",
            Self::MemoryUsedUp => "OOM",
            Self::ScriptCommandForbidden | Self::CommandForbidden | Self::KeyForbidden => "NOPERM",
            Self::PasswordChanged => "WRONGPASS",
            Self::ServerBusy => "BUSY",
            Self::BecomesReplica => "READONLY",
            Self::PasswordRequired => "NOAUTH",
            Self::DataLoads => "LOADING",
            Self::SlotUnserved => "CLUSTERDOWN",
        }
    }

    /// What the answer of `/health/ready` names besides the code.
    fn named(self) -> &'static str {
        match self {
            Self::ScriptCommandForbidden => "+hset",
            Self::CommandForbidden => "+hgetall",
            Self::KeyForbidden => "~sb:room:*",
            _ => "",
        }
    }
}

/// A Redis with the shipped ACL, and a node and an auth service over it.
struct RefusingRedis {
    server: RedisServer,
    /// Opened at the start: it may still send commands when a new one may not.
    admin: MultiplexedConnection,
    guard: RedisSecurity,
    processes: [Process; 2],
}

impl RefusingRedis {
    async fn start(cause: Cause) -> Self {
        let guard = match cause {
            Cause::PasswordRequired => RedisSecurity::none(),
            _ => RedisSecurity::acl(),
        };
        let bus_port = free_address().port().to_string();
        let args: &[&str] = match cause {
            // Each key takes as long to load as this test needs, see `begin`.
            Cause::DataLoads => &["--enable-debug-command", "yes", "--rdbcompression", "no"],
            Cause::SlotUnserved => &["--cluster-enabled", "yes", "--cluster-port", &bus_port],
            _ => &[],
        };
        let server = RedisServer::start(free_address(), &guard, args).await;
        if cause == Cause::SlotUnserved {
            server.run_text::<()>("CLUSTER ADDSLOTSRANGE 0 16383").await;
            eventually("the cluster serves all slots", async || {
                let info: String = server.run_text("CLUSTER INFO").await;
                info.contains("cluster_state:ok").then_some(())
            })
            .await;
        }
        let secret = random_secret();
        let start = async |binary: &str, user: RedisUser| {
            let url = format!("redis://{}{}", guard.login(user.name()), server.address);
            let env =
                [("AUTH_SECRET", secret.as_str()), ("REDIS_URL", &url), ("SIGNALBOX__AUTH__GUESTS", "true")];
            Process::start(binary, &env.map(|(name, value)| (name.to_owned(), value.to_owned()))).await
        };
        let processes =
            [start("signal-service", RedisUser::Signal).await, start("auth-service", RedisUser::Auth).await];
        let admin = server.connect().await;
        Self { server, admin, guard, processes }
    }

    /// Runs a command on the connection that was opened at the start.
    async fn run_as_before(&self, text: &str) {
        let mut words = text.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap());
        cmd.arg(words.collect::<Vec<_>>()).exec_async(&mut self.admin.clone()).await.unwrap();
    }

    async fn for_each_user(&self, rule: impl Fn(RedisUser) -> String) {
        for user in RedisUser::ALL {
            self.server.run_text::<()>(&format!("ACL SETUSER {} {}", user.name(), rule(user))).await;
        }
    }

    async fn begin(&self, cause: Cause) {
        match cause {
            Cause::DiskFails => {
                let folder: (String, String) = self.server.run_text("CONFIG GET dir").await;
                std::fs::remove_dir_all(folder.1).unwrap();
                let mut save = redis::cmd("CONFIG");
                self.server.run::<()>(save.arg(&["SET", "save", "3600 1"])).await;
                self.server.run_text::<String>("BGSAVE").await;
                eventually("the save fails", async || {
                    let info: String = self.server.run_text("INFO persistence").await;
                    info.contains("rdb_last_bgsave_status:err").then_some(())
                })
                .await;
            }
            Cause::ReplicaMissing => self.server.run_text("CONFIG SET min-replicas-to-write 1").await,
            Cause::MemoryUsedUp => self.server.run_text("CONFIG SET maxmemory 1").await,
            Cause::BecomesReplica => self.server.run_text("REPLICAOF 127.0.0.1 1").await,
            Cause::PasswordRequired => {
                self.run_as_before("CONFIG SET requirepass another").await;
                for kind in ["normal", "pubsub"] {
                    self.run_as_before(&format!("CLIENT KILL TYPE {kind} SKIPME yes")).await;
                }
            }
            Cause::DataLoads => {
                // 400 keys of 1 KiB. After each, the server answers the requests that wait.
                self.server.run_text::<()>("DEBUG POPULATE 400 key 1024").await;
                self.server.run_text::<()>("CONFIG SET loading-process-events-interval-bytes 1024").await;
                self.server.run_text::<()>("CONFIG SET key-load-delay 50000").await;
                let mut connection = self.server.connect().await;
                tokio::spawn(
                    async move { redis::cmd("DEBUG").arg("RELOAD").exec_async(&mut connection).await },
                );
            }
            Cause::SlotUnserved => self.server.run_text("CLUSTER DELSLOTS 0").await,
            Cause::ScriptCommandForbidden => self.for_each_user(|_| "-hset".to_owned()).await,
            Cause::CommandForbidden => self.for_each_user(|_| "-hgetall".to_owned()).await,
            Cause::KeyForbidden => self.for_each_user(|_| "resetkeys ~sb:partitions".to_owned()).await,
            Cause::PasswordChanged => self.for_each_user(|_| "resetpass >another".to_owned()).await,
            Cause::ServerBusy => {
                self.server.run_text::<()>("CONFIG SET busy-reply-threshold 100").await;
                let mut connection = self.server.connect().await;
                tokio::spawn(async move {
                    let mut spin = redis::cmd("EVAL");
                    spin.arg("while true do end").arg(0).exec_async(&mut connection).await
                });
            }
        }
    }

    async fn end(&self, cause: Cause) {
        match cause {
            Cause::DiskFails => {
                let mut save = redis::cmd("CONFIG");
                self.server.run::<()>(save.arg(&["SET", "save", ""])).await;
            }
            Cause::ReplicaMissing => self.server.run_text("CONFIG SET min-replicas-to-write 0").await,
            Cause::MemoryUsedUp => self.server.run_text("CONFIG SET maxmemory 0").await,
            Cause::BecomesReplica => self.server.run_text("REPLICAOF NO ONE").await,
            Cause::PasswordRequired => {
                self.run_as_before("CONFIG SET requirepass ").await;
            }
            Cause::DataLoads => self.server.run_text("CONFIG SET key-load-delay 0").await,
            Cause::SlotUnserved => self.server.run_text("CLUSTER ADDSLOTS 0").await,
            Cause::ScriptCommandForbidden => self.for_each_user(|_| "+hset".to_owned()).await,
            Cause::CommandForbidden => self.for_each_user(|_| "+hgetall".to_owned()).await,
            Cause::KeyForbidden => self.for_each_user(|_| "allkeys".to_owned()).await,
            Cause::PasswordChanged => {
                self.for_each_user(|user| {
                    let login = self.guard.login(user.name());
                    let (_, password) = login.trim_end_matches('@').split_once(':').unwrap();
                    format!("resetpass >{password}")
                })
                .await;
            }
            Cause::ServerBusy => {
                eventually("the script ends", async || self.server.try_run_text::<()>("SCRIPT KILL").await)
                    .await;
            }
        }
    }
}

fn count_lines(process: &Process, event: &str, code: &str) -> usize {
    let log = process.log();
    let is_wanted = |line: &&str| line.contains(event) && line.contains(&format!("code=\"{code}\""));
    log.lines().filter(is_wanted).count()
}

#[tokio::test]
async fn each_refusal_of_redis_is_reported_when_it_begins_and_when_it_ends() {
    for cause in Cause::ALL {
        let redis = RefusingRedis::start(*cause).await;
        redis.begin(*cause).await;
        for process in &redis.processes {
            let text = eventually_within(NOTICE_LIMIT, &format!("{cause:?}: not ready"), async || {
                let ready = Request::get("/health/ready").send(process.address).await;
                let is_named = [cause.code(), cause.named()].iter().all(|text| ready.text.contains(text));
                (ready.status == 503 && is_named).then_some(ready.text)
            })
            .await;
            assert!(text.contains("unavailable"), "{cause:?}: {text}");
            assert_eq!(Request::get("/health/live").send(process.address).await.status, 200);
            let counter = format!("signalbox_redis_refusals_total{{code=\"{}\"}}", cause.code());
            assert!(process.metric(&counter).await > 0.0, "{cause:?}");
        }
        redis.end(*cause).await;
        for process in &redis.processes {
            eventually_within(NOTICE_LIMIT, &format!("{cause:?}: ready again"), async || {
                (Request::get("/health/ready").send(process.address).await.status == 200).then_some(())
            })
            .await;
            // A thread writes the log, so its lines come later than the answers.
            eventually("a line for the end", async || {
                (count_lines(process, "redis_accepts", cause.code()) > 0).then_some(())
            })
            .await;
            for event in ["redis_refuses", "redis_accepts"] {
                let count = count_lines(process, event, cause.code());
                assert_eq!(count, 1, "{cause:?} {event}: {}", process.log());
            }
            process.assert_clean_log(&["another"]);
        }
    }
}

/// The metric has a value for each code, so a new code needs a cause. A replica without its master is
/// found to be a replica, and most times before a request meets MASTERDOWN.
#[tokio::test]
async fn each_code_that_a_process_counts_has_a_cause() {
    let server = RedisServer::start(free_address(), &RedisSecurity::none(), &[]).await;
    let env = [
        ("AUTH_SECRET".to_owned(), random_secret()),
        ("REDIS_URL".to_owned(), format!("redis://{}", server.address)),
    ];
    let process = Process::start("signal-service", &env).await;
    let metrics = Request::get("/metrics").send(process.metrics_address).await.text;
    let codes = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("signalbox_redis_refusals_total{code=\"")?.split('"').next());
    let without_cause: Vec<&str> = codes
        .filter(|code| !["other", "MASTERDOWN"].contains(code))
        .filter(|code| Cause::ALL.iter().all(|cause| cause.code() != *code))
        .collect();
    assert!(without_cause.is_empty(), "{without_cause:?}");
}

/// The servers work, so the nodes stay ready; but no failover could be followed.
#[tokio::test]
async fn a_refusal_of_the_login_at_sentinels_is_reported_with_the_remedy() {
    let redis = TestSentinel::start(RedisSecurity::acl_and_guarded_sentinels()).await;
    let secret = random_secret();
    let start = async |binary: &str, user: RedisUser| {
        let env = [("AUTH_SECRET", secret.clone()), ("REDIS_URL", redis.url(user.name()))];
        Process::start(binary, &env.map(|(name, value)| (name.to_owned(), value))).await
    };
    let processes =
        [start("signal-service", RedisUser::Signal).await, start("auth-service", RedisUser::Auth).await];
    let url = redis.url("signal");
    let password = url.split("sentinel_pass=").nth(1).unwrap().to_owned();
    let set_password = async |password: &str| {
        for sentinel in &redis.sentinels {
            sentinel.run_text::<()>(&format!("ACL SETUSER watcher resetpass >{password}")).await;
        }
    };
    set_password("another").await;
    let is_reported = |process: &Process, event: &str| count_lines(process, event, "WRONGPASS");
    for process in &processes {
        eventually_within(NOTICE_LIMIT, "each Sentinel is reported", async || {
            (is_reported(process, "redis_refuses") == 3).then_some(())
        })
        .await;
        let log = process.log();
        let line = log.lines().find(|line| line.contains("redis_refuses")).unwrap();
        assert!(
            line.contains("WARN") && line.contains("sentinel_user and sentinel_pass of REDIS_URL"),
            "{line}"
        );
        assert!(process.metric("signalbox_redis_refusals_total{code=\"WRONGPASS\"}").await > 0.0);
        assert_eq!(Request::get("/health/ready").send(process.address).await.status, 200);
    }
    set_password(&password).await;
    for process in &processes {
        eventually_within(NOTICE_LIMIT, "each end is reported", async || {
            (is_reported(process, "redis_accepts") == 3).then_some(())
        })
        .await;
        assert_eq!(is_reported(process, "redis_refuses"), 3, "{}", process.log());
        process.assert_clean_log(&["another", &password]);
    }
}

/// The rows are the table of commands. The services call them in scripts, or directly, or not at all.
#[tokio::test]
async fn the_start_of_each_service_names_a_command_that_it_may_not_run() {
    let guard = RedisSecurity::acl();
    let server = RedisServer::start(free_address(), &guard, &[]).await;
    for (binary, user) in [("signal-service", RedisUser::Signal), ("auth-service", RedisUser::Auth)] {
        for command in RedisCommand::ALL {
            let name = command.name().to_ascii_lowercase();
            server.run_text::<()>(&format!("ACL SETUSER {} -{name}", user.name())).await;
            let url = format!("redis://{}{}", guard.login(user.name()), server.address);
            let env = [("AUTH_SECRET".to_owned(), random_secret()), ("REDIS_URL".to_owned(), url)];
            if *command != RedisCommand::Exists || user == RedisUser::Auth {
                let listen = free_address().to_string();
                let ended = run_to_exit(binary, &["--listen", &listen], &env, EXIT_LIMIT).await;
                assert_eq!(ended.code, Some(1), "{name}: {ended:?}");
                let last = ended.stderr.lines().last().unwrap();
                assert!(last.contains(&format!("+{name}")) && last.contains("permission"), "{name}: {last}");
            }
            server.run_text::<()>(&format!("ACL SETUSER {} +{name}", user.name())).await;
        }
    }
}
