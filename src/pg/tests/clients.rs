//! A real driver, tokio-postgres, over the same stream.

use futures::{SinkExt, StreamExt, pin_mut};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::*;

async fn connect() -> (Client, watch::Sender<bool>) {
    let Wire { stream, shutdown, .. } = Wire::open();
    let mut config = tokio_postgres::Config::new();
    config.user("root").dbname("dev");
    let (client, connection) = config.connect_raw(stream, NoTls).await.expect("a session");
    tokio::spawn(async move {
        // An error is the server hanging up; whoever uses the client sees it.
        let _ = connection.await;
    });
    (client, shutdown)
}

#[tokio::test]
async fn simple_and_prepared_queries() -> Result<(), tokio_postgres::Error> {
    let (mut client, _shutdown) = connect().await;
    let answers = client.simple_query("rows 3").await?;
    let rows = answers.iter().filter(|m| matches!(m, SimpleQueryMessage::Row(_))).count();
    assert_eq!(rows, 3);
    let numbers: Vec<i32> = client.query("rows 7", &[]).await?.iter().map(|row| row.get(0)).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(client.query_one("param", &[&42i32]).await?.get::<_, i32>(0), 42);
    assert_eq!(client.query_one("param", &[&None::<i32>]).await?.get::<_, Option<i32>>(0), None);
    let error = client.query("fail", &[]).await.expect_err("it fails");
    assert_eq!(error.code().map(|c| c.code()), Some("22012"));
    let transaction = client.transaction().await?;
    let portal = transaction.bind("rows 5", &[]).await?;
    assert_eq!(transaction.query_portal(&portal, 3).await?.len(), 3);
    assert_eq!(transaction.query_portal(&portal, 3).await?.len(), 2);
    transaction.commit().await?;
    Ok(())
}

#[tokio::test]
async fn copies() -> Result<(), tokio_postgres::Error> {
    let (client, _shutdown) = connect().await;
    let sink = client.copy_in::<_, bytes::Bytes>("copyin").await?;
    pin_mut!(sink);
    sink.send(bytes::Bytes::from_static(b"1\t2\n3\t4\n")).await?;
    assert_eq!(sink.finish().await?, 2);
    let pieces: Vec<_> = client.copy_out("copyout 3").await?.collect().await;
    assert_eq!(pieces.into_iter().collect::<Result<Vec<_>, _>>()?.concat(), b"0\n1\n2\n");
    Ok(())
}

#[tokio::test]
async fn the_accept_loop_serves_cancels_and_stops() -> Result<(), Box<dyn std::error::Error>> {
    let listener = super::super::listener::bind("127.0.0.1:0".parse()?).await?;
    let address = listener.local_addr()?;
    let taken = super::super::listener::bind(address).await.expect_err("the port is taken");
    assert!(taken.message.starts_with(&format!("could not listen on {address}: address already in use")));
    let (shutdown, raised) = watch::channel(false);
    let host = DoubleHost::default();
    let accepting = tokio::spawn(super::super::listener::accept(listener, host.clone(), terms(None), raised));
    if let Ok(seconds) = std::env::var("HW_PROTOCOL_DOUBLE_SECONDS") {
        println!("listening on {address}");
        tokio::time::sleep(Duration::from_secs(seconds.parse()?)).await;
    }
    let config = format!("host=127.0.0.1 port={} user=root dbname=dev", address.port());
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await?;
    let connection = tokio::spawn(connection);
    assert_eq!(client.query("rows 2", &[]).await?.len(), 2);
    client.cancel_token().cancel_query(NoTls).await?;
    tokio::time::timeout(ANSWER_DURATION_MAX, async {
        while host.0.cancelled.load(std::sync::atomic::Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await?;
    shutdown.send_replace(true);
    let mut remaining = accepting.await?;
    assert!(remaining.wait(ANSWER_DURATION_MAX).await);
    let error = connection.await?.expect_err("the server said goodbye");
    assert_eq!(error.code().map(|c| c.code()), Some("57P01"));
    assert!(tokio_postgres::connect(&config, NoTls).await.is_err());
    Ok(())
}
