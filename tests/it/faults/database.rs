//! Faults of the database and of the way to it, on a server of their own.

use std::sync::Arc;
use std::time::Duration;

use rowgate::db::admin::Admin;
use rustix::process::Signal;
use tokio::time::sleep;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use super::cluster::{OwnCluster, embedding};
use super::handler::Handler;
use super::load::{Load, Truth};
use super::proxy::{FaultyProxy, Line};
use super::{Allowed, Span, Trial};
use crate::support::azure::LoopbackAzure;

/// Needs temporary files.
const SORT: &str = "select count(*) from (select repeat(md5(n::text), 20) m from generate_series(1, 200000) n \
                    order by m offset 0) r";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_fails_is_said_to_and_comes_back() {
    let span = Span::of_this_run();
    let azure = LoopbackAzure::start().await;
    let mut cluster = OwnCluster::start_on_small_disk(&azure).await;
    let mut proxy = FaultyProxy::to(cluster.port()).await;
    let truth = Arc::new(Truth::read(&cluster.superuser().await).await);
    let mut environment = embedding(&azure);
    environment.push(("ROWGATE_DATABASE_URL".to_owned(), cluster.url(proxy.port)));
    environment.push(("ROWGATE_CLAIM_KEYS".to_owned(), cluster.key_text.clone()));
    let handler = Handler::start(environment).await;
    let load = Load::start(&handler.url(), truth, span.clients, usize::MAX);
    let mut trial = Trial::new(load, span);

    trial.fault("none", Allowed::Nothing, sleep(span.fault)).await;
    let restart = async {
        cluster.stop().await;
        cluster.start_again().await;
        proxy.aim(cluster.port());
    };
    trial.fault("database restarted (fast shutdown)", Allowed::Nothing, restart).await;
    let kill = async {
        cluster.kill().await;
        cluster.start_again().await;
        proxy.aim(cluster.port());
    };
    trial.fault("postmaster killed (SIGKILL)", Allowed::Nothing, kill).await;
    let freeze = async {
        cluster.signal_all(Signal::STOP);
        sleep(span.fault.min(Duration::from_secs(3))).await;
        cluster.signal_all(Signal::CONT);
    };
    trial.fault("all of the server's processes frozen (SIGSTOP)", Allowed::Nothing, freeze).await;
    let cut = async {
        for most in [900, 2_500, 6_000, 20_000].into_iter().cycle().take(span.fault.as_millis() as usize / 50) {
            proxy.set(Line::Cut(most));
            sleep(Duration::from_millis(50)).await;
        }
        proxy.set(Line::Through);
    };
    trial.fault("connections cut in the middle of a result", Allowed::Nothing, cut).await;
    let vanish = async { proxy.vanish() };
    trial.fault("the peer of all connections vanishes (fail-over)", Allowed::Nothing, vanish).await;
    let silent = async {
        proxy.set(Line::Silent);
        sleep(span.fault * 2).await;
        proxy.set(Line::Through);
    };
    trial.fault("database black-holed", Allowed::Nothing, silent).await;
    let refuse = async {
        proxy.refuse().await;
        sleep(span.fault).await;
        proxy.listen().await;
    };
    trial.fault("database refuses connections", Allowed::Nothing, refuse).await;

    let superuser = cluster.superuser().await;
    let full = async {
        let taken = take_all_slots(&cluster, &superuser, span.fault).await;
        drop(taken);
    };
    trial.fault("all connection slots taken by others", Allowed::Nothing, full).await;
    let sessions = async {
        for _ in 0..5 {
            end_sessions(&superuser).await;
            sleep(span.fault / 5).await;
        }
    };
    trial.fault("sessions terminated by an administrator", Allowed::Nothing, sessions).await;
    let read_only = async {
        set(&superuser, "default_transaction_read_only = on").await;
        end_sessions(&superuser).await;
        sleep(span.fault).await;
        set(&superuser, "default_transaction_read_only = off").await;
    };
    trial.fault("the database is read only, as a standby is", Allowed::Nothing, read_only).await;
    let disk = async {
        set(&superuser, "temp_file_limit = 64").await;
        set(&superuser, "work_mem = '64kB'").await;
        sleep(span.fault).await;
        set(&superuser, "temp_file_limit = -1").await;
        set(&superuser, "work_mem = '4MB'").await;
    };
    trial.fault("no more room allowed for temporary files", Allowed::Nothing, disk).await;
    if cluster.disk.is_some() {
        set(&superuser, "work_mem = '64kB'").await;
        let full = async {
            let disk = cluster.disk.as_ref().unwrap();
            disk.fill();
            finds_no_room(&superuser).await;
            // What the server removes of its own is no room for others.
            for _ in 0..span.fault.as_millis() / 50 {
                sleep(Duration::from_millis(50)).await;
                disk.fill();
            }
            finds_no_room(&superuser).await;
            disk.clear();
        };
        trial.fault("disk full: no temporary file", Allowed::Nothing, full).await;
        set(&superuser, "work_mem = '4MB'").await;
        let full = async {
            cluster.disk.as_ref().unwrap().fill();
            // Fills what the server has in reserve. Then whoever has to write it ends, and the whole server with it.
            let message = "select pg_logical_emit_message(false, '', repeat('x', 1000000))";
            let mut room = 2_000;
            while superuser.query(message, &[]).await.is_ok() {
                assert!(room > 0, "the disk is not full");
                room -= 1;
            }
            sleep(span.fault).await;
            cluster.stop().await;
            cluster.disk.as_ref().unwrap().clear();
            cluster.start_again().await;
            proxy.aim(cluster.port());
        };
        trial.fault("disk full: no log of writes", Allowed::Nothing, full).await;
    }
    if std::env::var_os("ROWGATE_TEST_FAULTS_LOG").is_some() {
        println!("{}", handler.complaints());
        println!("{}", cluster.log());
    }
    trial.finish("Faults of the database").await;
}

/// The sort is told that the disk is full.
async fn finds_no_room(superuser: &Admin) {
    let error = superuser.query(SORT, &[]).await.expect_err("there is room");
    assert_eq!(error.code(), Some(&SqlState::DISK_FULL), "{error:?}");
}

async fn set(superuser: &Admin, setting: &str) {
    let setting = format!("alter system set {setting}");
    let mut again = 100;
    while let Err(error) = superuser.execute(&setting, &[]).await {
        // Seen once right after a full disk was cleared, with the whole suite at work: room for it comes in a moment.
        assert!(again > 0 && error.code() == Some(&SqlState::DISK_FULL), "{error:?}");
        again -= 1;
        sleep(Duration::from_millis(50)).await;
    }
    superuser.query("select pg_reload_conf()", &[]).await.unwrap();
}

async fn end_sessions(superuser: &Admin) {
    superuser
        .query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'rowgate_app'", &[])
        .await
        .unwrap();
}

/// Takes every slot that there is, also those that the load had, and keeps them for a while.
async fn take_all_slots(cluster: &OwnCluster, superuser: &Admin, time: Duration) -> Vec<Client> {
    let config = cluster.superuser_config();
    let mut taken = Vec::new();
    let mut fill = async || {
        while let Ok((client, connection)) = config.connect(NoTls).await {
            tokio::spawn(connection);
            taken.push(client);
        }
    };
    fill().await;
    for _ in 0..20 {
        end_sessions(superuser).await;
        fill().await;
        sleep(time / 20).await;
    }
    taken
}
