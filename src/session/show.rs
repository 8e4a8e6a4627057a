//! SHOW: settings, and lists of relations as RisingWave's users know them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};

use super::execute::text_rows;
use super::settings::canonical_name;
use super::{Outcome, Session};
use crate::catalog::functions::quote_identifier;
use crate::catalog::{Catalog, DATABASE, Function, Object, ObjectKind};
use crate::error::Result;
use crate::sql::{Name, Show};

/// The columns of the answer; all are text.
pub fn fields(show: &Show) -> Vec<FieldRef> {
    let names: &[&str] = match show {
        Show::Setting(name) => return vec![text_field(canonical_name(name))],
        Show::All => &["name", "setting", "description"],
        Show::Columns(_) => &["name", "type", "nullable", "key", "default"],
        Show::Create(_) => &["name", "create_sql"],
        Show::Functions => &["name", "arguments", "returns"],
        Show::Indexes(_) => &["name", "on", "key", "unique"],
        _ => &["name"],
    };
    names.iter().map(|name| text_field(name)).collect()
}

fn text_field(name: &str) -> FieldRef {
    Arc::new(Field::new(name, DataType::Utf8, true))
}

impl Session {
    pub(super) fn show(&self, show: &Show) -> Result<Outcome> {
        let catalog = self.shared.catalog();
        let columns = match show {
            Show::Setting(name) => vec![vec![Some(self.context.settings.lock().show(name)?)]],
            Show::All => {
                let all = self.context.settings.lock().all();
                let column =
                    |pick: fn(&(&str, String, &str)) -> String| all.iter().map(|row| Some(pick(row))).collect();
                vec![column(|r| r.0.to_string()), column(|r| r.1.clone()), column(|r| r.2.to_string())]
            }
            Show::Tables => vec![names(&catalog, |kind| matches!(kind, ObjectKind::Table { .. }))],
            Show::Sources => vec![names(&catalog, |kind| matches!(kind, ObjectKind::Source(_)))],
            Show::Views => vec![names(&catalog, |kind| matches!(kind, ObjectKind::View))],
            Show::MaterializedViews => {
                vec![names(&catalog, |kind| matches!(kind, ObjectKind::MaterializedView { .. }))]
            }
            Show::Sinks => vec![names(&catalog, |kind| matches!(kind, ObjectKind::Sink))],
            Show::Schemas => {
                let system = ["pg_catalog", "information_schema", "hw_catalog"];
                let users = catalog.schemas().map(|(name, _)| name);
                vec![system.into_iter().chain(users).map(|name| Some(name.to_string())).collect()]
            }
            Show::Databases => vec![vec![Some(DATABASE.to_string())]],
            Show::Columns(name) => columns(self.resolver(catalog).require(name)?),
            Show::Create(name) => self.show_create(name)?,
            Show::Functions => {
                let mut all: Vec<_> = catalog.functions().collect();
                all.sort_by_key(|function| (function.name.to_string(), function.arguments.len()));
                let column = |show: fn(&Function) -> String| all.iter().map(|function| Some(show(function))).collect();
                vec![column(|f| f.name.to_string()), column(|f| f.argument_list(true)), column(Function::result)]
            }
            Show::Indexes(None) => indexes(catalog.objects().map(AsRef::as_ref)),
            Show::Indexes(Some(name)) => indexes([self.resolver(catalog).require(name)?.as_ref()].into_iter()),
        };
        Ok(text_rows(fields(show), columns, "SHOW"))
    }

    fn show_create(&self, name: &Name) -> Result<Vec<Vec<Option<String>>>> {
        let catalog = self.shared.catalog();
        let resolver = self.resolver(catalog.clone());
        let object = resolver.require(name)?;
        // Late rows come with their view.
        let owner = match &object.kind {
            ObjectKind::MaterializedView { late_rows_of: Some(owner), .. } => catalog.get(*owner),
            _ => None,
        };
        Ok(vec![vec![Some(object.name.to_string())], vec![Some(create_text(owner.unwrap_or(object)))]])
    }
}

/// The statement that makes the relation.
fn create_text(object: &Object) -> String {
    let name = match object.name.schema.as_str() {
        crate::catalog::SCHEMA => quote_identifier(&object.name.name),
        schema => format!("{}.{}", quote_identifier(schema), quote_identifier(&object.name.name)),
    };
    match &object.kind {
        ObjectKind::View | ObjectKind::MaterializedView { .. } => {
            let columns: Vec<String> = object.columns.iter().map(|c| quote_identifier(&c.name)).collect();
            let kind = object.kind_name().to_uppercase();
            let (with, emit) = match &object.kind {
                ObjectKind::MaterializedView { options, .. } => (options.with_clause(), options.emit_clause()),
                _ => (String::new(), ""),
            };
            format!("CREATE {kind} {name} ({}) {with}AS {}{emit}", columns.join(", "), object.definition)
        }
        ObjectKind::Sink => {
            format!("CREATE SINK {name} AS {} WITH (connector = 'blackhole')", object.definition)
        }
        // Kept as the client wrote it.
        ObjectKind::Table { .. } | ObjectKind::Source(_) => object.definition.clone(),
    }
}

/// Primary keys among them.
fn indexes<'a>(objects: impl Iterator<Item = &'a Object>) -> Vec<Vec<Option<String>>> {
    let mut rows: Vec<[String; 4]> = vec![];
    for object in objects {
        for index in crate::catalog::system::indexes(object) {
            let columns: Vec<&str> = index.columns.iter().map(|&column| object.columns[column].name.as_str()).collect();
            let unique = if index.is_unique { "true" } else { "false" };
            rows.push([index.name, object.name.to_string(), columns.join(", "), unique.to_string()]);
        }
    }
    rows.sort();
    (0..4).map(|column| rows.iter().map(|row| Some(row[column].clone())).collect()).collect()
}

fn names(catalog: &Catalog, is_kind: impl Fn(&ObjectKind) -> bool) -> Vec<Option<String>> {
    let mut names: Vec<String> = catalog.objects().filter(|o| is_kind(&o.kind)).map(|o| o.name.to_string()).collect();
    names.sort();
    names.into_iter().map(Some).collect()
}

fn columns(object: &Object) -> Vec<Vec<Option<String>>> {
    let key: &[usize] = match &object.kind {
        ObjectKind::Table { primary_key, .. } => primary_key,
        ObjectKind::MaterializedView { key: Some(key), .. } => key,
        _ => &[],
    };
    let yes = |yes: bool| Some(if yes { "true" } else { "false" }.to_string());
    let indexed = || object.columns.iter().enumerate();
    vec![
        indexed().map(|(_, c)| Some(c.name.clone())).collect(),
        indexed().map(|(_, c)| Some(c.pg_type.name())).collect(),
        indexed().map(|(_, c)| yes(c.nullable)).collect(),
        indexed().map(|(index, _)| yes(key.contains(&index))).collect(),
        indexed().map(|(_, c)| c.default.clone()).collect(),
    ]
}
