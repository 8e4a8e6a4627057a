//! Postgres types and the Arrow types that carry them.
//!
//! An Arrow type alone does not say whether a string is `text`, `uuid` or `jsonb`; the field's metadata under
//! [`PG_TYPE_KEY`] does, in `format_type` spelling. Without metadata the Arrow type decides.
//!
//! | Postgres | Arrow | metadata |
//! |---|---|---|
//! | bool, int2, int4, int8, float4, float8 | Boolean, Int16 … Float64 | – |
//! | numeric | Decimal128(38,16), printed without trailing zeros | – |
//! | numeric(p,s) | Decimal128(p,s) | –; numeric(38,16): the name |
//! | text | Utf8 | – |
//! | varchar(n), char(n), name, uuid, json, jsonb | Utf8 | the name |
//! | bytea | Binary | – |
//! | date, time, timestamp, timestamptz, interval | Date32, Time64(µs), Timestamp(µs), Timestamp(µs, "UTC"), Interval(MonthDayNano) | – |
//! | oid and the reg* types | UInt32 | – / the name |
//! | T[] | List(T) | – |
//! | struct<…> / record | Struct | – |

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};

/// Field metadata key that names a Postgres type the Arrow type alone does not tell.
pub const PG_TYPE_KEY: &str = "pg.type";

#[derive(Clone, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub enum PgType {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// Precision and scale; `None` is the unconstrained `numeric`.
    Numeric(Option<(u8, i8)>),
    Text,
    Varchar(Option<u32>),
    /// Blank-padded `char(n)`.
    Bpchar(Option<u32>),
    /// The one-byte `"char"` of the catalogs.
    Char,
    Name,
    Bytea,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Uuid,
    Json,
    Jsonb,
    Oid,
    Regclass,
    Regtype,
    Regproc,
    Regnamespace,
    Int2vector,
    Oidvector,
    /// What `SELECT NULL` and `'text'` without a context have.
    Unknown,
    Void,
    Array(Box<PgType>),
    /// Field names and types of a composite value.
    Record(Vec<(String, PgType)>),
}

/// Precision and scale of what carries a `numeric` without them, and quotients: Postgres gives these 16 digits at least.
pub const NUMERIC_DEFAULT: (u8, i8) = (38, 16);

impl PgType {
    /// The type of a column or result field.
    pub fn of(field: &Field) -> PgType {
        if let Some(name) = field.metadata().get(PG_TYPE_KEY)
            && let Some(named) = PgType::from_metadata(name)
        {
            return named;
        }
        PgType::of_arrow(field.data_type())
    }

    /// The type of an Arrow type without metadata.
    pub fn of_arrow(data_type: &DataType) -> PgType {
        match data_type {
            DataType::Boolean => PgType::Bool,
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => PgType::Int2,
            DataType::UInt16 | DataType::Int32 => PgType::Int4,
            DataType::UInt32 => PgType::Oid,
            DataType::Int64 => PgType::Int8,
            DataType::UInt64 => PgType::Numeric(Some((20, 0))),
            DataType::Float16 | DataType::Float32 => PgType::Float4,
            DataType::Float64 => PgType::Float8,
            DataType::Decimal128(p, s) if (*p, *s) == NUMERIC_DEFAULT => PgType::Numeric(None),
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) => {
                PgType::Numeric(Some((*p, *s)))
            }
            DataType::Decimal256(p, s) => PgType::Numeric(Some((*p, *s))),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => PgType::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                PgType::Bytea
            }
            DataType::Date32 | DataType::Date64 => PgType::Date,
            DataType::Time32(_) | DataType::Time64(_) => PgType::Time,
            DataType::Timestamp(_, None) => PgType::Timestamp,
            DataType::Timestamp(_, Some(_)) => PgType::Timestamptz,
            DataType::Interval(_) | DataType::Duration(_) => PgType::Interval,
            DataType::Null => PgType::Unknown,
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::ListView(item)
            | DataType::LargeListView(item) => match PgType::of(item) {
                // Postgres arrays of arrays are arrays of more dimensions.
                PgType::Array(inner) => PgType::Array(inner),
                inner => PgType::Array(Box::new(inner)),
            },
            DataType::Struct(fields) => {
                PgType::Record(fields.iter().map(|f| (f.name().clone(), PgType::of(f))).collect())
            }
            DataType::Dictionary(_, value) => PgType::of_arrow(value),
            DataType::RunEndEncoded(_, values) => PgType::of(values),
            DataType::Map(_, _) | DataType::Union(_, _) => PgType::Text,
        }
    }

    /// The Arrow type that carries this type.
    pub fn arrow(&self) -> DataType {
        match self {
            PgType::Bool => DataType::Boolean,
            PgType::Int2 => DataType::Int16,
            PgType::Int4 => DataType::Int32,
            PgType::Int8 => DataType::Int64,
            PgType::Float4 => DataType::Float32,
            PgType::Float8 => DataType::Float64,
            PgType::Numeric(precision_scale) => {
                let (precision, scale) = precision_scale.unwrap_or(NUMERIC_DEFAULT);
                DataType::Decimal128(precision, scale)
            }
            PgType::Text
            | PgType::Varchar(_)
            | PgType::Bpchar(_)
            | PgType::Char
            | PgType::Name
            | PgType::Uuid
            | PgType::Json
            | PgType::Jsonb
            | PgType::Unknown
            | PgType::Void => DataType::Utf8,
            PgType::Bytea => DataType::Binary,
            PgType::Date => DataType::Date32,
            PgType::Time => DataType::Time64(TimeUnit::Microsecond),
            PgType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            PgType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            PgType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            PgType::Oid | PgType::Regclass | PgType::Regtype | PgType::Regproc | PgType::Regnamespace => {
                DataType::UInt32
            }
            PgType::Int2vector => DataType::List(PgType::Int2.field("item", true)),
            PgType::Oidvector => DataType::List(PgType::Oid.field("item", true)),
            PgType::Array(item) => DataType::List(item.field("item", true)),
            PgType::Record(fields) => {
                DataType::Struct(fields.iter().map(|(name, pg_type)| pg_type.field(name, true)).collect())
            }
        }
    }

    /// A field that carries this type, with metadata where the Arrow type alone does not tell.
    pub fn field(&self, name: &str, nullable: bool) -> FieldRef {
        let field = Field::new(name, self.arrow(), nullable);
        Arc::new(match self.metadata() {
            Some(text) => field.with_metadata(HashMap::from([(PG_TYPE_KEY.to_string(), text)])),
            None => field,
        })
    }

    fn metadata(&self) -> Option<String> {
        match self {
            // What has it without metadata is without a scale of its own.
            PgType::Numeric(Some(NUMERIC_DEFAULT)) => Some(self.name()),
            PgType::Varchar(_)
            | PgType::Bpchar(_)
            | PgType::Char
            | PgType::Name
            | PgType::Uuid
            | PgType::Json
            | PgType::Jsonb
            | PgType::Unknown
            | PgType::Void
            | PgType::Regclass
            | PgType::Regtype
            | PgType::Regproc
            | PgType::Regnamespace
            | PgType::Int2vector
            | PgType::Oidvector => Some(self.name()),
            _ => None,
        }
    }

    fn from_metadata(text: &str) -> Option<PgType> {
        let length =
            |prefix: &str| text.strip_prefix(prefix)?.strip_prefix('(')?.strip_suffix(')')?.parse::<u32>().ok();
        Some(match text {
            // Of data that was written with ten digits behind the point.
            "numeric" => PgType::Numeric(None),
            "numeric(38,16)" => PgType::Numeric(Some(NUMERIC_DEFAULT)),
            "character varying" => PgType::Varchar(None),
            "character" | "bpchar" => PgType::Bpchar(None),
            "\"char\"" => PgType::Char,
            "name" => PgType::Name,
            "uuid" => PgType::Uuid,
            "json" => PgType::Json,
            "jsonb" => PgType::Jsonb,
            "unknown" => PgType::Unknown,
            "void" => PgType::Void,
            "regclass" => PgType::Regclass,
            "regtype" => PgType::Regtype,
            "regproc" => PgType::Regproc,
            "regnamespace" => PgType::Regnamespace,
            "int2vector" => PgType::Int2vector,
            "oidvector" => PgType::Oidvector,
            _ => match (length("character varying"), length("character")) {
                (Some(n), _) => PgType::Varchar(Some(n)),
                (_, Some(n)) => PgType::Bpchar(Some(n)),
                _ => return None,
            },
        })
    }

    /// As `format_type` prints it: `character varying(10)`, `timestamp with time zone`, `integer[]`.
    pub fn name(&self) -> String {
        match self {
            PgType::Bool => "boolean".into(),
            PgType::Int2 => "smallint".into(),
            PgType::Int4 => "integer".into(),
            PgType::Int8 => "bigint".into(),
            PgType::Float4 => "real".into(),
            PgType::Float8 => "double precision".into(),
            PgType::Numeric(None) => "numeric".into(),
            PgType::Numeric(Some((p, s))) => format!("numeric({p},{s})"),
            PgType::Text => "text".into(),
            PgType::Varchar(None) => "character varying".into(),
            PgType::Varchar(Some(n)) => format!("character varying({n})"),
            PgType::Bpchar(None) => "character".into(),
            PgType::Bpchar(Some(n)) => format!("character({n})"),
            PgType::Char => "\"char\"".into(),
            PgType::Name => "name".into(),
            PgType::Bytea => "bytea".into(),
            PgType::Date => "date".into(),
            PgType::Time => "time without time zone".into(),
            PgType::Timestamp => "timestamp without time zone".into(),
            PgType::Timestamptz => "timestamp with time zone".into(),
            PgType::Interval => "interval".into(),
            PgType::Uuid => "uuid".into(),
            PgType::Json => "json".into(),
            PgType::Jsonb => "jsonb".into(),
            PgType::Oid => "oid".into(),
            PgType::Regclass => "regclass".into(),
            PgType::Regtype => "regtype".into(),
            PgType::Regproc => "regproc".into(),
            PgType::Regnamespace => "regnamespace".into(),
            PgType::Int2vector => "int2vector".into(),
            PgType::Oidvector => "oidvector".into(),
            PgType::Unknown => "unknown".into(),
            PgType::Void => "void".into(),
            PgType::Array(item) => format!("{}[]", item.name()),
            PgType::Record(_) => "record".into(),
        }
    }

    /// The OID of `pg_type` (fixed by Postgres for built-in types).
    pub fn oid(&self) -> u32 {
        match self {
            PgType::Bool => 16,
            PgType::Bytea => 17,
            PgType::Char => 18,
            PgType::Name => 19,
            PgType::Int8 => 20,
            PgType::Int2 => 21,
            PgType::Int2vector => 22,
            PgType::Int4 => 23,
            PgType::Regproc => 24,
            PgType::Text => 25,
            PgType::Oid => 26,
            PgType::Oidvector => 30,
            PgType::Json => 114,
            PgType::Float4 => 700,
            PgType::Float8 => 701,
            PgType::Unknown => 705,
            PgType::Bpchar(_) => 1042,
            PgType::Varchar(_) => 1043,
            PgType::Date => 1082,
            PgType::Time => 1083,
            PgType::Timestamp => 1114,
            PgType::Timestamptz => 1184,
            PgType::Interval => 1186,
            PgType::Numeric(_) => 1700,
            PgType::Regclass => 2205,
            PgType::Regtype => 2206,
            PgType::Void => 2278,
            PgType::Record(_) => 2249,
            PgType::Uuid => 2950,
            PgType::Jsonb => 3802,
            PgType::Regnamespace => 4089,
            PgType::Array(item) => item.array_oid(),
        }
    }

    /// The OID of the array type over this element type.
    fn array_oid(&self) -> u32 {
        match self {
            PgType::Bool => 1000,
            PgType::Bytea => 1001,
            PgType::Char => 1002,
            PgType::Name => 1003,
            PgType::Int2 => 1005,
            PgType::Int2vector => 1006,
            PgType::Int4 => 1007,
            PgType::Regproc => 1008,
            PgType::Text | PgType::Unknown | PgType::Void => 1009,
            PgType::Oidvector => 1013,
            PgType::Bpchar(_) => 1014,
            PgType::Varchar(_) => 1015,
            PgType::Int8 => 1016,
            PgType::Float4 => 1021,
            PgType::Float8 => 1022,
            PgType::Oid => 1028,
            PgType::Timestamp => 1115,
            PgType::Date => 1182,
            PgType::Time => 1183,
            PgType::Timestamptz => 1185,
            PgType::Interval => 1187,
            PgType::Numeric(_) => 1231,
            PgType::Json => 199,
            PgType::Regclass => 2210,
            PgType::Regtype => 2211,
            PgType::Record(_) => 2287,
            PgType::Uuid => 2951,
            PgType::Jsonb => 3807,
            PgType::Regnamespace => 4090,
            PgType::Array(item) => item.array_oid(),
        }
    }

    /// The type with this OID, without a modifier; `None` if we do not have it.
    pub fn from_oid(oid: u32) -> Option<PgType> {
        const SCALARS: &[PgType] = &[
            PgType::Bool,
            PgType::Bytea,
            PgType::Char,
            PgType::Name,
            PgType::Int8,
            PgType::Int2,
            PgType::Int2vector,
            PgType::Int4,
            PgType::Regproc,
            PgType::Text,
            PgType::Oid,
            PgType::Oidvector,
            PgType::Json,
            PgType::Float4,
            PgType::Float8,
            PgType::Unknown,
            PgType::Bpchar(None),
            PgType::Varchar(None),
            PgType::Date,
            PgType::Time,
            PgType::Timestamp,
            PgType::Timestamptz,
            PgType::Interval,
            PgType::Numeric(None),
            PgType::Regclass,
            PgType::Regtype,
            PgType::Uuid,
            PgType::Jsonb,
            PgType::Regnamespace,
            PgType::Void,
        ];
        if let Some(scalar) = SCALARS.iter().find(|t| t.oid() == oid) {
            return Some(scalar.clone());
        }
        let element = SCALARS.iter().find(|t| t.array_oid() == oid && !matches!(t, PgType::Unknown | PgType::Void))?;
        Some(PgType::Array(Box::new(element.clone())))
    }

    /// Bytes of a fixed-size value, −1 for variable size: `pg_type.typlen`.
    pub fn length(&self) -> i16 {
        match self {
            PgType::Bool | PgType::Char => 1,
            PgType::Int2 => 2,
            PgType::Int4
            | PgType::Float4
            | PgType::Date
            | PgType::Oid
            | PgType::Regclass
            | PgType::Regtype
            | PgType::Regproc
            | PgType::Regnamespace
            | PgType::Void => 4,
            PgType::Int8 | PgType::Float8 | PgType::Time | PgType::Timestamp | PgType::Timestamptz => 8,
            PgType::Interval | PgType::Uuid => 16,
            PgType::Name => 64,
            PgType::Unknown => -2,
            _ => -1,
        }
    }

    /// `atttypmod`: −1 where there is no modifier.
    pub fn modifier(&self) -> i32 {
        match self {
            PgType::Varchar(Some(n)) | PgType::Bpchar(Some(n)) => *n as i32 + 4,
            PgType::Numeric(Some((p, s))) => ((*p as i32) << 16 | (*s as i32 & 0x7ff)) + 4,
            _ => -1,
        }
    }
}
