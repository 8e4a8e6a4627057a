//! The eight tables of TPC-H and their rows, made by `tpchgen` (the rows of dbgen), cut into pieces and mixed.

use std::fmt::Display;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use tpchgen::csv::{CustomerCsv, LineItemCsv, NationCsv, OrderCsv, PartCsv, PartSuppCsv, RegionCsv, SupplierCsv};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};

/// Rows of one COPY, at most.
const ROWS_PER_PIECE: usize = 2000;

pub const TABLES: &str = "
    CREATE TABLE region (r_regionkey int PRIMARY KEY, r_name varchar(25) NOT NULL, r_comment varchar(152));
    CREATE TABLE nation (n_nationkey int PRIMARY KEY, n_name varchar(25) NOT NULL, n_regionkey int NOT NULL,
        n_comment varchar(152));
    CREATE TABLE part (p_partkey int PRIMARY KEY, p_name varchar(55) NOT NULL, p_mfgr varchar(25) NOT NULL,
        p_brand varchar(10) NOT NULL, p_type varchar(25) NOT NULL, p_size int NOT NULL,
        p_container varchar(10) NOT NULL, p_retailprice numeric(15,2) NOT NULL, p_comment varchar(23) NOT NULL);
    CREATE TABLE supplier (s_suppkey int PRIMARY KEY, s_name varchar(25) NOT NULL, s_address varchar(40) NOT NULL,
        s_nationkey int NOT NULL, s_phone varchar(15) NOT NULL, s_acctbal numeric(15,2) NOT NULL,
        s_comment varchar(101) NOT NULL);
    CREATE TABLE partsupp (ps_partkey int NOT NULL, ps_suppkey int NOT NULL, ps_availqty int NOT NULL,
        ps_supplycost numeric(15,2) NOT NULL, ps_comment varchar(199) NOT NULL, PRIMARY KEY (ps_partkey, ps_suppkey));
    CREATE TABLE customer (c_custkey int PRIMARY KEY, c_name varchar(25) NOT NULL, c_address varchar(40) NOT NULL,
        c_nationkey int NOT NULL, c_phone varchar(15) NOT NULL, c_acctbal numeric(15,2) NOT NULL,
        c_mktsegment varchar(10) NOT NULL, c_comment varchar(117) NOT NULL);
    CREATE TABLE orders (o_orderkey int PRIMARY KEY, o_custkey int NOT NULL, o_orderstatus varchar(1) NOT NULL,
        o_totalprice numeric(15,2) NOT NULL, o_orderdate date NOT NULL, o_orderpriority varchar(15) NOT NULL,
        o_clerk varchar(15) NOT NULL, o_shippriority int NOT NULL, o_comment varchar(79) NOT NULL);
    CREATE TABLE lineitem (l_orderkey int NOT NULL, l_partkey int NOT NULL, l_suppkey int NOT NULL,
        l_linenumber int NOT NULL, l_quantity numeric(15,2) NOT NULL, l_extendedprice numeric(15,2) NOT NULL,
        l_discount numeric(15,2) NOT NULL, l_tax numeric(15,2) NOT NULL, l_returnflag varchar(1) NOT NULL,
        l_linestatus varchar(1) NOT NULL, l_shipdate date NOT NULL, l_commitdate date NOT NULL,
        l_receiptdate date NOT NULL, l_shipinstruct varchar(25) NOT NULL, l_shipmode varchar(10) NOT NULL,
        l_comment varchar(44) NOT NULL, PRIMARY KEY (l_orderkey, l_linenumber));
";

/// Some rows of one table, as `COPY … (FORMAT csv)` takes them.
pub struct Piece {
    pub table: &'static str,
    pub csv: String,
    pub row_count: usize,
}

/// All rows at a scale factor, in pieces of all tables mixed: a line may come before its order, an order before its customer.
pub fn pieces(scale_factor: f64, seed: u64) -> Vec<Piece> {
    let sf = scale_factor;
    let mut random = StdRng::seed_from_u64(seed);
    let mut all = vec![];
    let mut add = |table: &'static str, mut lines: Vec<String>| {
        lines.shuffle(&mut random);
        // A small table comes in several pieces too.
        let size = (lines.len() / 8).clamp(1, ROWS_PER_PIECE);
        all.extend(lines.chunks(size).map(|rows| Piece { table, csv: rows.concat(), row_count: rows.len() }));
    };
    add("region", lines(RegionGenerator::new(sf, 1, 1).iter().map(RegionCsv::new)));
    add("nation", lines(NationGenerator::new(sf, 1, 1).iter().map(NationCsv::new)));
    add("part", lines(PartGenerator::new(sf, 1, 1).iter().map(PartCsv::new)));
    add("supplier", lines(SupplierGenerator::new(sf, 1, 1).iter().map(SupplierCsv::new)));
    add("partsupp", lines(PartSuppGenerator::new(sf, 1, 1).iter().map(PartSuppCsv::new)));
    add("customer", lines(CustomerGenerator::new(sf, 1, 1).iter().map(CustomerCsv::new)));
    add("orders", lines(OrderGenerator::new(sf, 1, 1).iter().map(OrderCsv::new)));
    add("lineitem", lines(LineItemGenerator::new(sf, 1, 1).iter().map(LineItemCsv::new)));
    all.shuffle(&mut random);
    all
}

fn lines(rows: impl Iterator<Item = impl Display>) -> Vec<String> {
    rows.map(|row| format!("{row}\n")).collect()
}

/// Steps of changes that together update and delete a tenth of the rows of the large tables.
pub const CHANGES: &[&str] = &[
    "UPDATE lineitem SET l_quantity = 51 - l_quantity, l_discount = 0.10 - l_discount
     WHERE (l_orderkey * 7 + l_linenumber) % 100 IN (3, 47)",
    "DELETE FROM lineitem WHERE (l_orderkey * 7 + l_linenumber) % 100 IN (11, 60)",
    "UPDATE orders SET o_orderdate = o_orderdate + 45, o_orderpriority = '1-URGENT', o_totalprice = o_totalprice + 1000
     WHERE o_orderkey % 40 IN (1, 6);
     UPDATE customer SET c_nationkey = (c_nationkey + 7) % 25, c_acctbal = 1000 - c_acctbal WHERE c_custkey % 20 = 3",
    "DELETE FROM orders WHERE o_orderkey % 40 IN (2, 35); DELETE FROM customer WHERE c_custkey % 20 = 11",
    "BEGIN; UPDATE part SET p_size = 15, p_type = 'ECONOMY ANODIZED STEEL' WHERE p_partkey % 20 = 4;
     UPDATE part SET p_brand = 'Brand#23', p_container = 'MED BOX' WHERE p_partkey % 20 = 9;
     UPDATE supplier SET s_nationkey = 20 WHERE s_suppkey % 10 = 1;
     UPDATE partsupp SET ps_supplycost = ps_supplycost / 2, ps_availqty = ps_availqty + 100
     WHERE (ps_partkey + ps_suppkey) % 20 = 5; COMMIT",
    "DELETE FROM partsupp WHERE (ps_partkey + ps_suppkey) % 20 = 13; DELETE FROM part WHERE p_partkey % 20 = 14;
     DELETE FROM supplier WHERE s_suppkey % 10 = 6",
    "UPDATE lineitem SET l_shipdate = l_shipdate + 200, l_receiptdate = l_receiptdate + 150, l_returnflag = 'R',
            l_suppkey = l_suppkey % 7 + 1, l_shipmode = 'MAIL'
     WHERE (l_orderkey * 7 + l_linenumber) % 100 IN (20, 21, 77)",
    "DELETE FROM lineitem WHERE l_orderkey % 32 = 4; UPDATE nation SET n_regionkey = 3 WHERE n_nationkey = 2;
     UPDATE nation SET n_name = 'GERMANIA' WHERE n_name = 'GERMANY'; UPDATE nation SET n_name = 'GERMANY' WHERE n_name = 'PERU'",
    "UPDATE customer SET c_mktsegment = 'BUILDING' WHERE c_custkey % 10 = 7; DELETE FROM orders WHERE o_custkey % 10 = 4;
     UPDATE lineitem SET l_quantity = l_quantity * 3 WHERE l_orderkey % 32 = 5",
];
