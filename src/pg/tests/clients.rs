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
