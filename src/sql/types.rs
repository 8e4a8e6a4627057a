//! Type names: what the parser read, as a Postgres type; and the planner's view of it, so that a cast remembers
//! whether a string is `uuid`, `jsonb` or `varchar(3)`.

use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::Result as PlanResult;
use datafusion::logical_expr::planner::TypePlanner;
use sqlparser::ast::{self, ArrayElemTypeDef, CharacterLength, ExactNumberInfo, TimezoneInfo};

use crate::error::{Error, Result, SqlState};
use crate::types::PgType;

/// Resolves type names in casts and typed literals.
#[derive(Debug)]
pub(super) struct PgTypePlanner;

impl TypePlanner for PgTypePlanner {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> PlanResult<Option<FieldRef>> {
        // A field without a name would keep what the source says of itself: `x::regclass::oid` would stay a regclass.
        Ok(Some(pg_type(sql_type)?.field("cast", true)))
    }
}

/// The most digits a `numeric(p,s)` can have.
const NUMERIC_PRECISION_MAX: u64 = 38;
/// Postgres' bound on `varchar(n)`.
const VARCHAR_LENGTH_MAX: u64 = 10_485_760;

/// 42704 for a type that does not exist, 0A000 for one of Postgres' that we do not have, 22023 for a bad modifier.
pub(super) fn pg_type(sql_type: &ast::DataType) -> Result<PgType> {
    use ast::DataType as T;
    Ok(match sql_type {
        T::Bool | T::Boolean => PgType::Bool,
        T::Int2(None) | T::SmallInt(None) => PgType::Int2,
        T::Int(None) | T::Integer(None) | T::Int4(None) => PgType::Int4,
        T::BigInt(None) | T::Int8(None) => PgType::Int8,
        T::Real | T::Float4 => PgType::Float4,
        T::DoublePrecision | T::Float8 | T::Double(ExactNumberInfo::None) => PgType::Float8,
        // float(1..24) is real, float(25..53) is double precision.
        T::Float(info) => match info {
            ExactNumberInfo::None => PgType::Float8,
            ExactNumberInfo::Precision(1..=24) => PgType::Float4,
            ExactNumberInfo::Precision(25..=53) => PgType::Float8,
            _ => {
                return Err(Error::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    "precision for type float must be between 1 and 53 bits",
                ));
            }
        },
        T::Numeric(info) | T::Decimal(info) | T::Dec(info) => numeric(info)?,
        T::Text => PgType::Text,
        T::Varchar(length) | T::CharacterVarying(length) | T::CharVarying(length) => {
            PgType::Varchar(character_length(length, "varchar")?)
        }
        T::Char(length) | T::Character(length) => PgType::Bpchar(Some(character_length(length, "char")?.unwrap_or(1))),
        T::Bytea => PgType::Bytea,
        T::Date => PgType::Date,
        T::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => PgType::Time,
        T::Timestamp(precision, zone) => {
            if precision.is_some_and(|digits| digits > 6) {
                return Err(Error::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("timestamp({}) precision must be between 0 and 6", precision.unwrap_or(0)),
                ));
            }
            match zone {
                TimezoneInfo::Tz | TimezoneInfo::WithTimeZone => PgType::Timestamptz,
                TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => PgType::Timestamp,
            }
        }
        T::Interval { .. } => PgType::Interval,
        T::Uuid => PgType::Uuid,
        T::JSON => PgType::Json,
        T::JSONB => PgType::Jsonb,
        T::Regclass => PgType::Regclass,
        T::Array(ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::AngleBracket(item)) => {
            match pg_type(item)? {
                // Postgres does not tell int[][] from int[].
                array @ PgType::Array(_) => array,
                item => PgType::Array(Box::new(item)),
            }
        }
        T::Struct(fields, _) => PgType::Record(
            fields
                .iter()
                .map(|field| {
                    let name = field.field_name.as_ref().map(super::parser::fold).unwrap_or_default();
                    Ok((name, pg_type(&field.field_type)?))
                })
                .collect::<Result<_>>()?,
        ),
        T::Custom(name, modifiers) => named(name, modifiers)?,
        other => return Err(unknown(other)),
    })
}

fn numeric(info: &ExactNumberInfo) -> Result<PgType> {
    let (precision, scale) = match *info {
        ExactNumberInfo::None => return Ok(PgType::Numeric(None)),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    if !(1..=NUMERIC_PRECISION_MAX).contains(&precision) {
        let message = format!("NUMERIC precision {precision} must be between 1 and {NUMERIC_PRECISION_MAX}");
        return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
            .with_hint("numeric without a precision holds 22 digits before the point and 16 after it"));
    }
    if !(0..=precision as i64).contains(&scale) {
        return Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("NUMERIC scale {scale} must be between 0 and precision {precision}"),
        ));
    }
    Ok(PgType::Numeric(Some((precision as u8, scale as i8))))
}

fn character_length(length: &Option<CharacterLength>, type_name: &str) -> Result<Option<u32>> {
    match length {
        None => Ok(None),
        Some(CharacterLength::IntegerLength { length: 0, .. }) => Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("length for type {type_name} must be at least 1"),
        )),
        Some(CharacterLength::IntegerLength { length, .. }) if *length <= VARCHAR_LENGTH_MAX => {
            Ok(Some(*length as u32))
        }
        Some(_) => Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("length for type {type_name} cannot exceed {VARCHAR_LENGTH_MAX}"),
        )),
    }
}

/// Types that the grammar has no keyword for.
fn named(name: &ast::ObjectName, modifiers: &[String]) -> Result<PgType> {
    let folded = super::parser::fold_name(name)?;
    if !matches!(folded.schema.as_deref(), None | Some("pg_catalog")) || !modifiers.is_empty() {
        return Err(unknown(name));
    }
    Ok(match folded.name.as_str() {
        "bool" => PgType::Bool,
        "name" => PgType::Name,
        "char" => PgType::Char,
        "bpchar" => PgType::Bpchar(None),
        "text" => PgType::Text,
        "varchar" => PgType::Varchar(None),
        "int2" => PgType::Int2,
        "int4" | "int" => PgType::Int4,
        "int8" => PgType::Int8,
        "float4" => PgType::Float4,
        "float8" => PgType::Float8,
        "numeric" => PgType::Numeric(None),
        "date" => PgType::Date,
        "time" => PgType::Time,
        "timestamp" => PgType::Timestamp,
        "timestamptz" => PgType::Timestamptz,
        "interval" => PgType::Interval,
        "uuid" => PgType::Uuid,
        "json" => PgType::Json,
        "jsonb" => PgType::Jsonb,
        "bytea" => PgType::Bytea,
        "oid" | "xid" | "cid" => PgType::Oid,
        "regclass" => PgType::Regclass,
        "regtype" => PgType::Regtype,
        "regproc" | "regprocedure" => PgType::Regproc,
        "regnamespace" => PgType::Regnamespace,
        "int2vector" => PgType::Int2vector,
        "oidvector" => PgType::Oidvector,
        "unknown" => PgType::Unknown,
        "void" => PgType::Void,
        other => match other.strip_prefix('_').and_then(array_element) {
            Some(item) => PgType::Array(Box::new(item)),
            None => return Err(unknown(&folded.name)),
        },
    })
}

/// `_int4` is Postgres' own name for `int4[]`.
fn array_element(name: &str) -> Option<PgType> {
    let ident = ast::Ident::with_quote('"', name);
    named(&ast::ObjectName::from(vec![ident]), &[]).ok().filter(|t| !matches!(t, PgType::Array(_)))
}

fn unknown(name: &impl std::fmt::Display) -> Error {
    let name = name.to_string().to_ascii_lowercase();
    const KNOWN_TO_POSTGRES: &[&str] = &[
        "bit",
        "box",
        "cidr",
        "circle",
        "inet",
        "line",
        "lseg",
        "macaddr",
        "money",
        "path",
        "point",
        "polygon",
        "serial",
        "bigserial",
        "smallserial",
        "time with time zone",
        "timetz",
        "tsquery",
        "tsvector",
        "varbit",
        "xml",
    ];
    if KNOWN_TO_POSTGRES.iter().any(|known| name == *known || name.starts_with(&format!("{known}("))) {
        return Error::unsupported(format!("type {name}"), "take text, or one of the types in the documentation");
    }
    Error::new(SqlState::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist"))
}
