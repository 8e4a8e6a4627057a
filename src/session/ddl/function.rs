//! CREATE FUNCTION … LANGUAGE SQL, DROP FUNCTION.
//!
//! A function is text: calls are expanded when a query is bound ([`crate::sql::bind`]). So a view keeps what its functions
//! were when it was built; a function that a maintained view stands on is not replaced under it.

use std::sync::Arc;

use super::Session;
use super::drop::drop_together;
use crate::catalog::functions::quote_identifier;
use crate::catalog::{Catalog, Function, Object, ObjectKind, Returns};
use crate::error::{Error, Result, SqlState};
use crate::sql::bind::{bind_query, body_relations, body_types, require_row_wise};
use crate::sql::parser::{check_body, parse_query};
use crate::sql::{CreateFunction, DropFunction, FunctionName, RelationResolver, ResolvedRelation, as_of};
use crate::types::PgType;

impl Session {
    pub(super) async fn create_function(&mut self, create: &CreateFunction, text: &str) -> Result<&'static str> {
        let catalog = self.shared.catalog();
        let name = self.resolver(catalog.clone()).creation_name(&create.name)?;
        self.require_no_built_in(&name.name)?;
        let function = Function {
            // A real one is given below, when the name is known to be free.
            id: catalog.next_id(),
            name,
            arguments: create.arguments.clone(),
            returns: create.returns.clone(),
            strict: create.strict,
            volatility: create.volatility,
            body: create.body.clone(),
            definition: text.to_string(),
        };
        self.check_function(&function)?;
        let (shared, or_replace) = (self.shared.clone(), create.or_replace);
        let change = async move {
            let _lock = shared.ddl.lock().await;
            let mut catalog = shared.catalog().as_ref().clone();
            let old = clashing(&catalog, &function, or_replace)?;
            let id = match old {
                Some(old) => {
                    require_replaceable(&catalog, &old, &function)?;
                    // Also what is built over plain views that call it.
                    let above = catalog.drop_order(old.id);
                    if let Some(reader) = above.iter().find_map(|id| shared.builds.reserved_reader(*id)) {
                        let message = format!("\"{reader}\" is being built with function {}", old.signature());
                        return Err(Error::new(SqlState("55006"), message).with_hint("wait for it, and try again"));
                    }
                    old.id
                }
                None => catalog.allocate_id(),
            };
            catalog.put_function(Function { id, ..function });
            shared.publish(catalog).await
        };
        self.shared.uninterrupted(change).await?;
        Ok("CREATE FUNCTION")
    }

    /// 42723 for the name of a function that is there already for everybody.
    fn require_no_built_in(&self, name: &str) -> Result<()> {
        let state = &self.state;
        let known = state.scalar_functions().contains_key(name)
            || state.aggregate_functions().contains_key(name)
            || state.window_functions().contains_key(name)
            || state.table_functions().contains_key(name)
            || matches!(name, "tumble" | "hop" | "cumulate" | "session" | "grouping" | "exists");
        if !known {
            return Ok(());
        }
        Err(Error::new(SqlState("42723"), format!("function \"{name}\" is built in")).with_hint("choose another name"))
    }

    /// Binds the body once with NULL for every argument: what could never be called is refused now.
    fn check_function(&self, function: &Function) -> Result<()> {
        check_body(&function.body)?;
        let catalog = self.shared.catalog();
        let resolver = self.resolver(catalog.clone());
        for relation in body_relations(&function.body)? {
            if as_of::split(&relation.name).1.is_some() {
                let hint = "put it into the query that calls the function";
                return Err(Error::unsupported("FOR SYSTEM_TIME AS OF in the body of a function", hint));
            }
            // A name of WITH is found nowhere, or is hidden: its columns are looked at all the same.
            let Some(resolved) = resolver.resolve(relation.schema.as_deref(), &relation.name)? else { continue };
            let columns = match &resolved {
                ResolvedRelation::Rows { source, .. } => {
                    source.schema().fields().iter().map(|field| field.name().clone()).collect()
                }
                ResolvedRelation::View { columns, .. } => columns.clone(),
            };
            let names = function.arguments.iter().filter_map(|argument| argument.name.as_ref());
            if let Some(name) = names.into_iter().find(|name| columns.contains(name)) {
                return Err(Error::unsupported(
                    format!("parameter \"{name}\", which is called like a column of \"{}\"", relation.name),
                    "give the parameter another name",
                ));
            }
        }
        // Columns and their types as the body gives them, before the casts that a call puts around them.
        let given = body_types(&self.state, &resolver, function)?;
        let nulls: Vec<String> =
            function.arguments.iter().map(|argument| format!("CAST(NULL AS {})", argument.pg_type.name())).collect();
        let name = format!("{}.{}", quote_identifier(&function.name.schema), quote_identifier(&function.name.name));
        let called = match &function.returns {
            Returns::Value(_) => format!("SELECT {name}({})", nulls.join(", ")),
            _ => format!("SELECT * FROM {name}({}) AS q", nulls.join(", ")),
        };
        let called = parse_query(&called)?;
        let with_probe = WithProbe { resolver: &resolver, probe: Arc::new(function.clone()) };
        let bound = bind_query(&self.state, &with_probe, &called, &[]);
        let bound = bound.map_err(|error| Error { position: None, ..error })?;
        if matches!(function.returns, Returns::Value(_)) && body_relations(&function.body)?.is_empty() {
            require_row_wise(&bound.plan)?;
        }
        require_result(function, &given)
    }

    pub(super) async fn drop_functions(&mut self, drop: &DropFunction) -> Result<&'static str> {
        let catalog = self.shared.catalog();
        let mut functions = vec![];
        for name in &drop.functions {
            match self.named_function(&catalog, name)? {
                Some(function) => functions.push(function),
                None => {
                    let message = format!("function {} does not exist", shown(name));
                    if !drop.if_exists {
                        return Err(Error::new(SqlState::UNDEFINED_FUNCTION, message));
                    }
                    self.notice(SqlState("00000"), format!("{message}, skipping"));
                }
            }
        }
        let (shared, cascade) = (self.shared.clone(), drop.cascade);
        let change = async move {
            for function in functions {
                let readers: Vec<Arc<Object>> = shared.catalog().dependents(function.id).into_iter().cloned().collect();
                if !readers.is_empty() && cascade {
                    drop_together(&shared, readers.iter().map(|reader| reader.id).collect(), vec![], true).await?;
                }
                let _lock = shared.ddl.lock().await;
                let mut catalog = shared.catalog().as_ref().clone();
                require_unused(&catalog, &function)?;
                if let Some(reader) = shared.builds.reserved_reader(function.id) {
                    let message = format!("\"{reader}\" is being built with function {}", function.signature());
                    return Err(Error::new(SqlState("55006"), message).with_hint("wait for it, and try again"));
                }
                catalog.remove_function(function.id);
                shared.publish(catalog).await?;
            }
            Ok(())
        };
        self.shared.uninterrupted(change).await?;
        Ok("DROP FUNCTION")
    }

    /// 42725 if the name alone says too little.
    pub(super) fn named_function(&self, catalog: &Catalog, name: &FunctionName) -> Result<Option<Arc<Function>>> {
        let schemas = match &name.name.schema {
            Some(schema) => vec![schema.clone()],
            None => self.context.settings.lock().search_path(),
        };
        let fits = |function: &&Arc<Function>| match &name.types {
            None => true,
            Some(types) => types.iter().eq(function.arguments.iter().map(|argument| &argument.pg_type)),
        };
        for schema in schemas {
            let found: Vec<_> = catalog.functions_named(&schema, &name.name.name).filter(fits).collect();
            match found.as_slice() {
                [] => continue,
                [one] => return Ok(Some((*one).clone())),
                _ => {
                    let message = format!("function name \"{}\" is not unique", name.name.name);
                    return Err(Error::new(SqlState("42725"), message)
                        .with_hint("Specify the argument list to select the function unambiguously."));
                }
            }
        }
        Ok(None)
    }
}

/// The catalog's functions, and one that is not in it yet.
struct WithProbe<'a> {
    resolver: &'a dyn RelationResolver,
    probe: Arc<Function>,
}

impl RelationResolver for WithProbe<'_> {
    fn resolve(&self, schema: Option<&str>, name: &str) -> Result<Option<ResolvedRelation>> {
        self.resolver.resolve(schema, name)
    }

    fn session_value(&self, name: &str) -> Option<String> {
        self.resolver.session_value(name)
    }

    fn has_functions(&self) -> bool {
        true
    }

    fn functions(&self, schema: Option<&str>, name: &str) -> Vec<Arc<Function>> {
        let mut known = self.resolver.functions(schema, name);
        if name == self.probe.name.name {
            let count = self.probe.arguments.len();
            known.retain(|other| !other.takes(count));
            known.push(self.probe.clone());
        }
        known
    }
}

pub(super) fn shown(name: &FunctionName) -> String {
    let types = name.types.as_ref().map(|types| types.iter().map(PgType::name).collect::<Vec<_>>().join(", "));
    match types {
        Some(types) => format!("{}({types})", name.name.name),
        None => name.name.name.clone(),
    }
}

/// The function that the new one replaces. 42723 without OR REPLACE, 0A000 if calls could not tell the two apart.
fn clashing(catalog: &Catalog, new: &Function, or_replace: bool) -> Result<Option<Arc<Function>>> {
    let types = |function: &Function| -> Vec<PgType> {
        function.arguments.iter().map(|argument| argument.pg_type.clone()).collect()
    };
    let mut replaced = None;
    for old in catalog.functions_named(&new.name.schema, &new.name.name) {
        if types(old) == types(new) {
            if !or_replace {
                let message = format!("function \"{}\" already exists with same argument types", new.name.name);
                return Err(Error::new(SqlState("42723"), message));
            }
            replaced = Some(old.clone());
            continue;
        }
        if (0..=old.arguments.len().max(new.arguments.len())).any(|count| old.takes(count) && new.takes(count)) {
            return Err(Error::unsupported(
                format!("a second function \"{}\" that can be called with as many arguments", new.name.name),
                format!(
                    "{} is there already; functions are told apart by how many arguments they take",
                    old.signature()
                ),
            ));
        }
    }
    Ok(replaced)
}

/// Postgres' rule (the result stays), and one of ours: nothing that is maintained may stand on it.
fn require_replaceable(catalog: &Catalog, old: &Function, new: &Function) -> Result<()> {
    if old.result() != new.result() {
        return Err(Error::new(SqlState("42P13"), "cannot change return type of existing function")
            .with_hint(format!("Use DROP FUNCTION {} first.", old.signature())));
    }
    let above = catalog.drop_order(old.id);
    let maintained = above
        .iter()
        .filter_map(|id| catalog.get(*id))
        .find(|reader| matches!(reader.kind, ObjectKind::MaterializedView { .. } | ObjectKind::Sink));
    match maintained {
        None => Ok(()),
        Some(reader) => Err(Error::unsupported(
            format!("replacing function {} while \"{}\" is maintained with it", old.signature(), reader.name),
            format!("give the new one another name and replace \"{}\" by a view that calls it", reader.name),
        )),
    }
}

fn require_unused(catalog: &Catalog, function: &Function) -> Result<()> {
    let readers = catalog.dependents(function.id);
    if readers.is_empty() {
        return Ok(());
    }
    let name = format!("function {}", function.signature());
    let details: Vec<String> =
        readers.iter().map(|reader| format!("{} {} depends on {name}", reader.kind_name(), reader.name)).collect();
    let message = format!("cannot drop {name} because other objects depend on it");
    Err(Error::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
        .with_detail(details.join("\n"))
        .with_hint("Use DROP ... CASCADE to drop the dependent objects too."))
}

/// 42P13 if the body gives other columns than the function promises.
fn require_result(function: &Function, given: &[PgType]) -> Result<()> {
    let promised: Vec<&PgType> = match &function.returns {
        Returns::Value(pg_type) | Returns::SetOf(pg_type) => vec![pg_type],
        Returns::Table(columns) => columns.iter().map(|(_, pg_type)| pg_type).collect(),
    };
    let mismatch = |detail: String| {
        let message = format!("return type mismatch in function declared to return {}", function.result());
        Err(Error::new(SqlState("42P13"), message).with_detail(detail))
    };
    if given.len() != promised.len() {
        return mismatch(format!("The query gives {} columns, not {}.", given.len(), promised.len()));
    }
    for (given, promised) in given.iter().zip(promised) {
        // Numbers become each other in an assignment, and anything becomes text only if asked.
        let alike = given == promised
            || *given == PgType::Unknown
            || (is_number(given) && is_number(promised))
            || (is_text(given) && is_text(promised))
            || (is_time(given) && is_time(promised))
            || std::mem::discriminant(given) == std::mem::discriminant(promised);
        if !alike {
            return mismatch(format!("Actual return type is {}.", given.name()));
        }
    }
    Ok(())
}

fn is_number(pg_type: &PgType) -> bool {
    matches!(pg_type, PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Float4 | PgType::Float8 | PgType::Numeric(_))
}

fn is_text(pg_type: &PgType) -> bool {
    matches!(pg_type, PgType::Text | PgType::Varchar(_) | PgType::Bpchar(_) | PgType::Name)
}

fn is_time(pg_type: &PgType) -> bool {
    matches!(pg_type, PgType::Date | PgType::Timestamp | PgType::Timestamptz)
}
