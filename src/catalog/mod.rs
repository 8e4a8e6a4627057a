//! The catalog: which relations there are, what they are made of, and who depends on whom.
//!
//! [`Catalog`] is an immutable value; a change makes a new one, so a reader holds a consistent one for as long as it
//! likes. What Postgres clients ask of `pg_catalog` and `information_schema` is answered from it by [`system`], with
//! the functions of [`functions`]. Persistence is a JSON record for each object ([`Object::to_record`]); where the
//! records are kept is not known here.

mod comments;
mod function;
pub mod functions;
mod object;
mod role;
pub mod system;
mod verifier;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use comments::{Class, Commented};
pub use function::{Argument, Function, Returns};
pub use object::{
    Column, GeneratedColumn, Index, Object, ObjectKind, QualifiedName, SourceDefinition, ViewOptions,
    WatermarkDefinition, span_option,
};

pub use role::Role;
pub use verifier::{KEY_BYTES, Verifier, hmac_sha256, random, sha256};

use crate::error::{Error, Result, SqlState};
use crate::types::RelationId;

/// The database that exists from the start.
pub const DATABASE: &str = "dev";
/// The role that exists from the start.
pub const USER: &str = "root";
/// Where unqualified names are looked up and created.
pub const SCHEMA: &str = "public";

#[derive(Clone, Debug)]
pub struct Catalog {
    objects: BTreeMap<RelationId, Arc<Object>>,
    names: BTreeMap<QualifiedName, RelationId>,
    functions: BTreeMap<RelationId, Arc<Function>>,
    /// User schemas with their OIDs; `public` is always there.
    schemas: BTreeMap<String, u32>,
    comments: BTreeMap<Commented, String>,
    /// By OID.
    roles: BTreeMap<u32, Arc<Role>>,
    next_id: RelationId,
    /// Goes up with every change.
    pub version: u64,
}

impl Default for Catalog {
    fn default() -> Catalog {
        Catalog {
            objects: BTreeMap::new(),
            names: BTreeMap::new(),
            functions: BTreeMap::new(),
            schemas: BTreeMap::from([(SCHEMA.to_string(), 2200)]),
            comments: BTreeMap::new(),
            roles: role::first(),
            next_id: RelationId::FIRST,
            version: 0,
        }
    }
}

impl Catalog {
    /// Restores a catalog from its objects, functions, schemas and id counter. Fails with XX001 if two objects share a name.
    pub fn restore(
        objects: Vec<Object>,
        functions: Vec<Function>,
        schemas: Vec<(String, u32)>,
        next_id: RelationId,
    ) -> Result<Catalog> {
        let mut catalog = Catalog { next_id, ..Catalog::default() };
        catalog.schemas.extend(schemas);
        catalog.functions.extend(functions.into_iter().map(|function| (function.id, Arc::new(function))));
        for object in objects {
            catalog.next_id = catalog.next_id.max(RelationId(object.id.0 + 1));
            if let Some(other) = catalog.names.insert(object.name.clone(), object.id) {
                return Err(Error::new(
                    SqlState::DATA_CORRUPTED,
                    format!("relations {} and {} are both named \"{}\"", other.0, object.id.0, object.name),
                ));
            }
            catalog.objects.insert(object.id, Arc::new(object));
        }
        Ok(catalog)
    }

    /// An id that was never given before.
    pub fn allocate_id(&mut self) -> RelationId {
        let id = self.next_id;
        self.next_id = RelationId(id.0 + 1);
        id
    }

    pub fn next_id(&self) -> RelationId {
        self.next_id
    }

    /// 42P07 if the name is taken, 3F000 if its schema does not exist.
    pub fn insert(&mut self, object: Object) -> Result<Arc<Object>> {
        if !self.schemas.contains_key(&object.name.schema) {
            return Err(Error::new(
                SqlState::INVALID_SCHEMA_NAME,
                format!("schema \"{}\" does not exist", object.name.schema),
            ));
        }
        if self.names.contains_key(&object.name)
            || self.find_index(Some(&object.name.schema), &object.name.name).is_some()
        {
            return Err(Error::new(
                SqlState::DUPLICATE_TABLE,
                format!("relation \"{}\" already exists", object.name.name),
            ));
        }
        let object = Arc::new(object);
        self.names.insert(object.name.clone(), object.id);
        self.objects.insert(object.id, object.clone());
        self.version += 1;
        Ok(object)
    }

    /// Puts these in the place of what has their ids, all at once: names may change places. 42P07 if a name is taken by
    /// something else, 3F000 if its schema does not exist; then nothing has changed.
    pub fn update(&mut self, objects: Vec<Object>) -> Result<()> {
        let mut names = self.names.clone();
        for object in &objects {
            if let Some(old) = self.objects.get(&object.id) {
                names.remove(&old.name);
            }
        }
        for object in &objects {
            if !self.schemas.contains_key(&object.name.schema) {
                let message = format!("schema \"{}\" does not exist", object.name.schema);
                return Err(Error::new(SqlState::INVALID_SCHEMA_NAME, message));
            }
            let is_index = self.find_index(Some(&object.name.schema), &object.name.name).is_some();
            if names.insert(object.name.clone(), object.id).is_some() || is_index {
                let message = format!("relation \"{}\" already exists", object.name.name);
                return Err(Error::new(SqlState::DUPLICATE_TABLE, message));
            }
        }
        self.names = names;
        self.objects.extend(objects.into_iter().map(|object| (object.id, Arc::new(object))));
        self.version += 1;
        Ok(())
    }

    pub fn remove(&mut self, id: RelationId) -> Option<Arc<Object>> {
        let object = self.objects.remove(&id)?;
        self.names.remove(&object.name);
        self.version += 1;
        Some(object)
    }

    pub fn get(&self, id: RelationId) -> Option<&Arc<Object>> {
        self.objects.get(&id)
    }

    /// Looks up a name; an unqualified one in `public`. Names are already folded to their final case.
    pub fn find(&self, schema: Option<&str>, name: &str) -> Option<&Arc<Object>> {
        let name = QualifiedName { schema: schema.unwrap_or(SCHEMA).to_string(), name: name.to_string() };
        self.names.get(&name).and_then(|id| self.objects.get(id))
    }

    /// The index of this name, with its relation; an unqualified one in `public`.
    pub fn find_index(&self, schema: Option<&str>, name: &str) -> Option<(&Arc<Object>, &Index)> {
        let schema = schema.unwrap_or(SCHEMA);
        let mut indexed = self.objects.values().filter(|o| !o.indexes.is_empty() && o.name.schema == schema);
        indexed.find_map(|object| Some((object, object.indexes.iter().find(|index| index.name == name)?)))
    }

    /// The index with this OID, with its relation.
    pub fn index(&self, id: RelationId) -> Option<(&Arc<Object>, &Index)> {
        let mut indexed = self.objects.values().filter(|o| !o.indexes.is_empty());
        indexed.find_map(|object| Some((object, object.indexes.iter().find(|index| index.id == id)?)))
    }

    /// All SQL functions, oldest first.
    pub fn functions(&self) -> impl Iterator<Item = &Arc<Function>> {
        self.functions.values()
    }

    pub fn functions_named<'a>(&'a self, schema: &'a str, name: &'a str) -> impl Iterator<Item = &'a Arc<Function>> {
        self.functions.values().filter(move |f| f.name.schema == schema && f.name.name == name)
    }

    pub fn function(&self, id: RelationId) -> Option<&Arc<Function>> {
        self.functions.get(&id)
    }

    /// Adds a function, or puts it in the place of the one with its id.
    pub fn put_function(&mut self, function: Function) {
        self.functions.insert(function.id, Arc::new(function));
        self.version += 1;
    }

    pub fn remove_function(&mut self, id: RelationId) {
        self.functions.remove(&id);
        self.version += 1;
    }

    /// All objects, oldest first.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    pub fn schemas(&self) -> impl Iterator<Item = (&str, u32)> {
        self.schemas.iter().map(|(name, oid)| (name.as_str(), *oid))
    }

    pub fn has_schema(&self, name: &str) -> bool {
        self.schemas.contains_key(name)
    }

    /// 42P06 if it exists.
    pub fn create_schema(&mut self, name: &str) -> Result<()> {
        if self.schemas.contains_key(name) || matches!(name, "pg_catalog" | "information_schema" | "hw_catalog") {
            return Err(Error::new(SqlState::DUPLICATE_SCHEMA, format!("schema \"{name}\" already exists")));
        }
        let oid = self.allocate_id().0;
        self.schemas.insert(name.to_string(), oid);
        self.version += 1;
        Ok(())
    }

    /// 3F000 if it does not exist; 2BP01 if it holds objects or is `public`.
    pub fn drop_schema(&mut self, name: &str) -> Result<()> {
        if !self.schemas.contains_key(name) {
            return Err(Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist")));
        }
        let is_used = self.objects.values().any(|o| o.name.schema == name)
            || self.functions.values().any(|f| f.name.schema == name);
        if name == SCHEMA || is_used {
            return Err(Error::new(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop schema {name} because other objects depend on it"),
            )
            .with_hint("drop its relations and functions first"));
        }
        self.schemas.remove(name);
        self.version += 1;
        Ok(())
    }

    /// Objects that read `id` directly.
    pub fn dependents(&self, id: RelationId) -> Vec<&Arc<Object>> {
        self.objects.values().filter(|o| o.depends_on.contains(&id)).collect()
    }

    /// `id` and everything that depends on it, dependents before what they read: the order to drop in.
    pub fn drop_order(&self, id: RelationId) -> Vec<RelationId> {
        let mut order = vec![];
        self.visit_dependents(id, &mut order);
        order
    }

    fn visit_dependents(&self, id: RelationId, order: &mut Vec<RelationId>) {
        if order.contains(&id) {
            return;
        }
        for dependent in self.dependents(id) {
            self.visit_dependents(dependent.id, order);
        }
        order.push(id);
    }
}
