//! Casts that DataFusion's planner does not know: to the `reg…` types, to `oid`, to names with a schema before them, and
//! from the text of an array.

use sqlparser::ast::{
    Array, ArrayElemTypeDef, BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    Interval, Value, WindowFrameBound, WindowSpec,
};

use super::build::{call, cast, column_name, folded_parts, function_name, null, oid, string_literal, take, text};

/// Casts inside the expression are rewritten already.
pub(super) fn rewrite_expr(expr: &mut Expr) {
    match expr {
        Expr::Cast { expr: inner, data_type, .. } => {
            if let Some(function) = reference_function(data_type) {
                let operand = take(inner);
                *expr = call(function, vec![operand]);
                return;
            }
            normalize(data_type);
            if is_text(data_type)
                && let Some(printed) = printed(inner)
            {
                *expr = if matches!(data_type, DataType::Text) { printed } else { cast(printed, data_type.clone()) };
            } else if let DataType::Array(_) = data_type
                && let Some(elements) = string_literal(inner).and_then(array_elements)
            {
                **inner = Expr::Array(Array { elem: elements, named: true });
            }
        }
        Expr::Interval(interval) => {
            if let Some(words) = interval_words(interval) {
                *expr = cast(text(words), DataType::Interval { fields: None, precision: None });
            }
        }
        Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
            print_reference(left);
            print_reference(right);
        }
        Expr::Function(function) if prints_arguments(function) => {
            if let FunctionArguments::List(list) = &mut function.args {
                for argument in &mut list.args {
                    if let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument {
                        print_reference(argument);
                    }
                }
            }
        }
        _ => {}
    }
}

/// `INTERVAL '1 day 02:03'` and `INTERVAL '2' HOUR` as text that the input of intervals reads as Postgres does.
/// The bounds of a frame are constants; an interval among them must be written as one, not as a cast.
pub(super) fn plain_bounds(window: &mut WindowSpec) {
    let Some(frame) = &mut window.window_frame else { return };
    for bound in [Some(&mut frame.start_bound), frame.end_bound.as_mut()].into_iter().flatten() {
        if let WindowFrameBound::Preceding(Some(expr)) | WindowFrameBound::Following(Some(expr)) = bound
            && let Expr::Cast { expr: inner, data_type: DataType::Interval { .. }, .. } = expr.as_ref()
            && matches!(inner.as_ref(), Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)))
        {
            let value = inner.clone();
            **expr = Expr::Interval(Interval {
                value,
                leading_field: None,
                leading_precision: None,
                last_field: None,
                fractional_seconds_precision: None,
            });
        }
    }
}

fn interval_words(interval: &Interval) -> Option<String> {
    let words = string_literal(&interval.value)?;
    if interval.last_field.is_some()
        || interval.leading_precision.is_some()
        || interval.fractional_seconds_precision.is_some()
    {
        return None;
    }
    match &interval.leading_field {
        None => Some(words.to_string()),
        Some(unit) => words.trim().parse::<f64>().ok().map(|_| format!("{} {unit}", words.trim())),
    }
}

fn prints_arguments(function: &Function) -> bool {
    function_name(&function.name).is_some_and(|name| matches!(name.as_str(), "format" | "concat" | "concat_ws"))
}

/// Turns a `reg…` value into the name it stands for.
pub(super) fn print_reference(expr: &mut Expr) {
    if let Expr::Function(function) = expr
        && let Some(name) = function_name(&function.name)
        && matches!(name.as_str(), "hw_regclass" | "hw_regtype" | "hw_regproc" | "hw_regnamespace")
        && let FunctionArguments::List(list) = &function.args
        && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(operand))] = list.args.as_slice()
    {
        *expr = call(&format!("{name}_text"), vec![operand.clone()]);
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Text | DataType::Varchar(None) | DataType::CharacterVarying(None))
}

/// The text of what DataFusion prints otherwise than Postgres: a `reg…` value, and a vector of the catalogs.
fn printed(inner: &Expr) -> Option<Expr> {
    if let Expr::Function(_) = inner {
        let mut printed = inner.clone();
        print_reference(&mut printed);
        return (printed != *inner).then_some(printed);
    }
    let name = column_name(inner)?;
    let vector = matches!(name.as_str(), "indkey" | "indoption" | "indclass" | "indcollation" | "proargtypes");
    vector.then(|| call("array_to_string", vec![inner.clone(), text(" ")]))
}

fn reference_function(data_type: &DataType) -> Option<&'static str> {
    let name = match data_type {
        DataType::Regclass => "regclass".to_string(),
        DataType::Custom(name, modifiers) if modifiers.is_empty() => built_in(&folded_parts(name)?)?,
        _ => return None,
    };
    Some(match name.as_str() {
        "regclass" => "hw_regclass",
        "regtype" => "hw_regtype",
        "regproc" | "regprocedure" => "hw_regproc",
        "regnamespace" => "hw_regnamespace",
        _ => return None,
    })
}

/// The name of a type that may have `pg_catalog.` before it.
fn built_in(parts: &[String]) -> Option<String> {
    match parts {
        [name] => Some(name.clone()),
        [schema, name] if schema == "pg_catalog" => Some(name.clone()),
        _ => None,
    }
}

/// Brings a type's name to the parser's own word for it, where it has one.
fn normalize(data_type: &mut DataType) {
    match data_type {
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::AngleBracket(item)) => {
            normalize(item);
        }
        DataType::Custom(name, modifiers) if modifiers.is_empty() => {
            let qualified = name.0.len() > 1;
            let Some(name) = folded_parts(name).as_deref().and_then(built_in) else { return };
            *data_type = match name.as_str() {
                "oid" | "xid" | "cid" => oid(),
                // A quoted "char" is one byte of text; an unquoted one is parsed as a type of its own.
                "name" | "cstring" | "char" => DataType::Text,
                "text" => DataType::Text,
                "bool" => DataType::Boolean,
                "int2" => DataType::Int2(None),
                "int4" => DataType::Int4(None),
                "int8" => DataType::Int8(None),
                "float4" => DataType::Float4,
                "float8" => DataType::Float8,
                "varchar" => DataType::Varchar(None),
                "numeric" => DataType::Numeric(sqlparser::ast::ExactNumberInfo::None),
                "date" if qualified => DataType::Date,
                "bytea" if qualified => DataType::Bytea,
                "uuid" if qualified => DataType::Uuid,
                "json" if qualified => DataType::JSON,
                "jsonb" if qualified => DataType::JSONB,
                "timestamptz" if qualified => DataType::Timestamp(None, sqlparser::ast::TimezoneInfo::Tz),
                "timestamp" if qualified => DataType::Timestamp(None, sqlparser::ast::TimezoneInfo::None),
                "int2vector" => array_of(DataType::Int2(None)),
                "oidvector" => array_of(oid()),
                _ => return,
            };
        }
        _ => {}
    }
}

fn array_of(item: DataType) -> DataType {
    DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(item), None))
}

/// The elements of an array's text, `{1,"two",NULL}`, as string literals; `None` if it is not one of one dimension.
pub(super) fn array_elements(literal: &str) -> Option<Vec<Expr>> {
    let body = literal.trim().strip_prefix('{')?.strip_suffix('}')?;
    if body.trim().is_empty() {
        return Some(vec![]);
    }
    let mut elements = vec![];
    let mut chars = body.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut element = String::new();
        let quoted = chars.next_if_eq(&'"').is_some();
        loop {
            match chars.next() {
                Some('\\') => element.push(chars.next()?),
                Some('"') if quoted => break,
                Some('{' | '}' | '"') if !quoted => return None,
                Some(',') if !quoted => {
                    elements.push(unquoted(&element)?);
                    element.clear();
                    while chars.next_if(|c| c.is_whitespace()).is_some() {}
                    if chars.peek() == Some(&'"') {
                        break;
                    }
                }
                Some(c) => element.push(c),
                None if quoted => return None,
                None => {
                    elements.push(unquoted(&element)?);
                    return Some(elements);
                }
            }
        }
        if quoted {
            elements.push(text(element));
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
            match chars.next() {
                Some(',') => {}
                None => return Some(elements),
                Some(_) => return None,
            }
        }
    }
}

fn unquoted(element: &str) -> Option<Expr> {
    let element = element.trim_end();
    match element {
        "" => None,
        null_word if null_word.eq_ignore_ascii_case("null") => Some(null()),
        element => Some(text(element)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_texts_fall_apart() {
        let shown = |literal: &str| {
            array_elements(literal).map(|e| e.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(shown("{1, 2,3}").as_deref(), Some("'1' '2' '3'"));
        assert_eq!(shown("{a,\"b,c\",NULL,\"d\"}").as_deref(), Some("'a' 'b,c' NULL 'd'"));
        assert_eq!(shown("{}").as_deref(), Some(""));
        assert_eq!(shown("{{1},{2}}"), None);
        assert_eq!(shown("{1,}"), None);
        assert_eq!(shown("plain"), None);
    }
}
