//! The Nexmark queries as RisingWave writes them, over the columns that they need.

pub struct Query {
    pub name: &'static str,
    pub title: &'static str,
    /// Sources that it reads: Person, Auction, Bid.
    pub tables: &'static [&'static str],
    pub sql: &'static str,
    pub emits: Emits,
    /// Events to generate, times this: heavy queries get fewer, so that a run ends.
    pub factor: f64,
}

/// What becomes of the result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Emits {
    /// Every change, into a sink that lets it go.
    Changes,
    /// Each window when it is over, into a view; the source has a watermark.
    OnWindowClose,
    /// Every change, by the time at which the rows came.
    ByArrival,
}

impl Query {
    /// What starts it.
    pub fn statement(&self) -> String {
        match self.emits {
            Emits::Changes | Emits::ByArrival => {
                format!("CREATE SINK {} AS {} WITH (connector = 'blackhole')", self.name, self.sql)
            }
            Emits::OnWindowClose => {
                format!("CREATE MATERIALIZED VIEW {} AS {} EMIT ON WINDOW CLOSE", self.name, self.sql)
            }
        }
    }
}

/// `CREATE SOURCE` of one of the three tables. All see the same run of events, of which 46 in 50 are bids.
pub fn source(table: &str, event_count: u64, emits: Emits) -> String {
    // Of bids, since nothing else is asked for by window.
    let columns = match emits {
        Emits::Changes => "",
        Emits::ByArrival => {
            "(bidder BIGINT, p_time TIMESTAMPTZ AS PROCTIME(), WATERMARK FOR p_time AS p_time - INTERVAL '1 second')"
        }
        Emits::OnWindowClose => {
            "(auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP,
              WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds')"
        }
    };
    format!(
        "CREATE SOURCE {} {columns} WITH (connector = 'nexmark', nexmark.table.type = '{table}', nexmark.event.num = '{event_count}', nexmark.seed = '1')",
        table.to_lowercase()
    )
}

pub const QUERIES: &[Query] = &[
    Query {
        name: "q0",
        title: "q0 pass through",
        tables: &["Bid"],
        sql: "SELECT auction, bidder, price, date_time FROM bid",
        emits: Emits::Changes,
        factor: 5.0,
    },
    Query {
        name: "q1",
        title: "q1 currency conversion",
        tables: &["Bid"],
        sql: "SELECT auction, bidder, 0.908 * price AS price, date_time FROM bid",
        emits: Emits::Changes,
        factor: 5.0,
    },
    Query {
        name: "q2",
        title: "q2 selection",
        tables: &["Bid"],
        sql: "SELECT auction, price FROM bid
              WHERE auction = 1007 OR auction = 1020 OR auction = 2001 OR auction = 2019 OR auction = 2087",
        emits: Emits::Changes,
        factor: 5.0,
    },
    Query {
        name: "q3",
        title: "q3 join of sellers and auctions",
        tables: &["Auction", "Person"],
        sql: "SELECT P.name, P.city, P.state, A.id FROM auction AS A INNER JOIN person AS P ON A.seller = P.id
              WHERE A.category = 10 AND (P.state = 'OR' OR P.state = 'ID' OR P.state = 'CA')",
        emits: Emits::Changes,
        factor: 5.0,
    },
    Query {
        name: "q5",
        title: "q5 hot items (hop, aggregate, join)",
        tables: &["Bid"],
        sql: "SELECT AuctionBids.auction, AuctionBids.num FROM (
                  SELECT bid.auction, count(*) AS num, window_start AS starttime
                  FROM HOP(bid, date_time, INTERVAL '2' SECOND, INTERVAL '10' SECOND) GROUP BY window_start, bid.auction
              ) AS AuctionBids
              JOIN (
                  SELECT max(CountBids.num) AS maxn, CountBids.starttime_c FROM (
                      SELECT count(*) AS num, window_start AS starttime_c
                      FROM HOP(bid, date_time, INTERVAL '2' SECOND, INTERVAL '10' SECOND) GROUP BY bid.auction, window_start
                  ) AS CountBids GROUP BY CountBids.starttime_c
              ) AS MaxBids
              ON AuctionBids.starttime = MaxBids.starttime_c AND AuctionBids.num >= MaxBids.maxn",
        emits: Emits::Changes,
        factor: 0.5,
    },
    Query {
        name: "q7",
        title: "q7 highest bid (tumble, max, join)",
        tables: &["Bid"],
        sql: "SELECT B.auction, B.price, B.bidder, B.date_time FROM bid B
              JOIN (
                  SELECT max(price) AS maxprice, window_end AS date_time
                  FROM TUMBLE(bid, date_time, INTERVAL '10' SECOND) GROUP BY window_end
              ) B1 ON B.price = B1.maxprice
              WHERE B.date_time BETWEEN B1.date_time - INTERVAL '10' SECOND AND B1.date_time",
        emits: Emits::Changes,
        factor: 0.5,
    },
    Query {
        name: "q8",
        title: "q8 new users (tumble, distinct, join)",
        tables: &["Auction", "Person"],
        sql: "SELECT P.id, P.name, P.starttime FROM (
                  SELECT id, name, window_start AS starttime, window_end AS endtime
                  FROM TUMBLE(person, date_time, INTERVAL '10' SECOND) GROUP BY id, name, window_start, window_end
              ) P
              JOIN (
                  SELECT seller, window_start AS starttime, window_end AS endtime
                  FROM TUMBLE(auction, date_time, INTERVAL '10' SECOND) GROUP BY seller, window_start, window_end
              ) A ON P.id = A.seller AND P.starttime = A.starttime AND P.endtime = A.endtime",
        emits: Emits::Changes,
        factor: 5.0,
    },
    Query {
        name: "group_by",
        title: "GROUP BY auction: count, sum, max",
        tables: &["Bid"],
        sql: "SELECT auction, count(*) AS n, sum(price) AS total, max(price) AS high FROM bid GROUP BY auction",
        emits: Emits::Changes,
        factor: 2.0,
    },
    Query {
        name: "tumble_closed",
        title: "bids of an auction in 10 s, on close",
        tables: &["Bid"],
        sql: "SELECT window_start, window_end, auction, count(*) AS n, max(price) AS high
              FROM TUMBLE(bid, date_time, INTERVAL '10' SECOND) GROUP BY window_start, window_end, auction",
        emits: Emits::OnWindowClose,
        factor: 1.0,
    },
    Query {
        name: "hop_closed",
        title: "bids of an auction in 10 s every 2 s, on close",
        tables: &["Bid"],
        sql: "SELECT window_start, window_end, auction, count(*) AS n
              FROM HOP(bid, date_time, INTERVAL '2' SECOND, INTERVAL '10' SECOND) GROUP BY window_start, window_end, auction",
        emits: Emits::OnWindowClose,
        factor: 0.5,
    },
    Query {
        name: "tumble_keys",
        title: "1 M keys in 5 min, on close",
        tables: &["Bid"],
        sql: "SELECT window_start, window_end, (auction * 1000003 + bidder * 10007 + price) % 1000000 AS k, count(*) AS n, sum(price) AS total
              FROM TUMBLE(bid, date_time, INTERVAL '5' MINUTE)
              GROUP BY window_start, window_end, (auction * 1000003 + bidder * 10007 + price) % 1000000",
        emits: Emits::OnWindowClose,
        factor: 1.0,
    },
    Query {
        name: "hop_fine",
        title: "bids of a hundred keys in 1 h every 1 s, on close",
        tables: &["Bid"],
        sql: "SELECT window_start, window_end, auction % 100 AS k, count(*) AS n, sum(price) AS total, max(price) AS high
              FROM HOP(bid, date_time, INTERVAL '1' SECOND, INTERVAL '1' HOUR) GROUP BY window_start, window_end, auction % 100",
        emits: Emits::OnWindowClose,
        factor: 0.5,
    },
    Query {
        name: "sessions_open",
        title: "100 k sessions open (gap 1 min), on close",
        tables: &["Bid"],
        sql: "SELECT k, window_start, window_end, count(*) AS n
              FROM SESSION((SELECT (auction * 1000003 + bidder * 10007 + price) % 100000 AS k, date_time FROM bid)
                           PARTITION BY k, date_time, INTERVAL '1' MINUTE) GROUP BY k, window_start, window_end",
        emits: Emits::OnWindowClose,
        factor: 0.5,
    },
    Query {
        name: "q12",
        title: "q12 bids of a bidder in 10 s of processing time",
        tables: &["Bid"],
        sql: "SELECT bidder, count(*) AS bid_count, window_start, window_end
              FROM TUMBLE(bid, p_time, INTERVAL '10' SECOND) GROUP BY bidder, window_start, window_end",
        emits: Emits::ByArrival,
        factor: 1.0,
    },
    Query {
        name: "q11",
        title: "q11 sessions of a bidder (gap 10 s)",
        tables: &["Bid"],
        sql: "SELECT bidder, count(*) AS bid_count, window_start, window_end
              FROM SESSION(bid PARTITION BY bidder, date_time, INTERVAL '10' SECOND) GROUP BY bidder, window_start, window_end",
        emits: Emits::Changes,
        factor: 0.5,
    },
];
