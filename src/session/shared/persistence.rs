//! The catalog on disk: `c/o/<id>` an object, `c/f/<id>` a function, `c/s/<schema>` a schema's OID, `c/d/<class, OID, column>` a
//! comment, `c/r/<oid>` a role, `c/next` the next id, `c/secret` what stands in for the passwords of roles that do not exist. One batch for
//! each statement, durable before the statement answers.

use crate::catalog::{Catalog, Class, Commented, Function, KEY_BYTES, Object, Role, random};
use crate::error::{Error, Result, SqlState};
use crate::state::{Store, StoreBatch};
use crate::types::RelationId;

const OBJECTS: &[u8] = b"c/o/";
const FUNCTIONS: &[u8] = b"c/f/";
const SCHEMAS: &[u8] = b"c/s/";
const COMMENTS: &[u8] = b"c/d/";
const ROLES: &[u8] = b"c/r/";
const NEXT: &[u8] = b"c/next";
const SECRET: &[u8] = b"c/secret";

/// The catalog as it was last committed. XX001 if it cannot be read.
pub fn load(store: &dyn Store) -> Result<Catalog> {
    let (mut objects, mut functions, mut schemas, mut roles) = (vec![], vec![], vec![], vec![]);
    store.scan(OBJECTS, &mut |_, record| {
        objects.push(Object::from_record(record)?);
        Ok(())
    })?;
    store.scan(FUNCTIONS, &mut |_, record| {
        functions.push(Function::from_record(record)?);
        Ok(())
    })?;
    store.scan(SCHEMAS, &mut |key, record| {
        let name = String::from_utf8(key[SCHEMAS.len()..].to_vec()).map_err(|_| corrupted("a schema's name"))?;
        schemas.push((name, number(record)?));
        Ok(())
    })?;
    store.scan(ROLES, &mut |_, record| {
        roles.push(Role::from_record(record)?);
        Ok(())
    })?;
    let next = match store.get(NEXT)? {
        Some(record) => RelationId(number(&record)?),
        None => RelationId::FIRST,
    };
    let mut catalog = Catalog::restore(objects, functions, schemas, next)?.with_roles(roles);
    store.scan(COMMENTS, &mut |key, record| {
        let text = String::from_utf8(record.to_vec()).map_err(|_| corrupted("a comment"))?;
        catalog.set_comment(commented(&key[COMMENTS.len()..])?, Some(text));
        Ok(())
    })?;
    Ok(catalog)
}

/// Random bytes that are this data directory's alone, and stay. XX001 if they cannot be read.
pub fn secret(store: &dyn Store) -> Result<[u8; KEY_BYTES]> {
    if let Some(secret) = store.get(SECRET)? {
        return secret.as_slice().try_into().map_err(|_| corrupted("the server's secret"));
    }
    let secret = random()?;
    let mut batch = StoreBatch::default();
    batch.put(SECRET.to_vec(), secret.to_vec());
    store.commit(batch)?;
    Ok(secret)
}

/// Writes what differs between two versions of the catalog.
pub fn save(store: &dyn Store, before: &Catalog, after: &Catalog) -> Result<()> {
    let mut batch = StoreBatch::default();
    for object in before.objects().filter(|o| after.get(o.id).is_none()) {
        batch.delete(object_key(object.id));
    }
    for object in after.objects() {
        let same = before.get(object.id).is_some_and(|old| std::sync::Arc::ptr_eq(old, object));
        if !same {
            batch.put(object_key(object.id), object.to_record());
        }
    }
    for function in before.functions().filter(|f| after.function(f.id).is_none()) {
        batch.delete(function_key(function.id));
    }
    for function in after.functions() {
        let same = before.function(function.id).is_some_and(|old| std::sync::Arc::ptr_eq(old, function));
        if !same {
            batch.put(function_key(function.id), function.to_record());
        }
    }
    for (name, _) in before.schemas().filter(|(name, _)| !after.has_schema(name)) {
        batch.delete(schema_key(name));
    }
    for (name, oid) in after.schemas().filter(|(name, _)| !before.has_schema(name)) {
        batch.put(schema_key(name), oid.to_be_bytes());
    }
    for (on, _) in before.comments().filter(|(on, _)| after.comment(*on).is_none()) {
        batch.delete(comment_key(on));
    }
    for (on, text) in after.comments().filter(|(on, text)| before.comment(*on) != Some(text)) {
        batch.put(comment_key(on), text.as_bytes());
    }
    for role in before.roles().filter(|role| after.role(role.oid).is_none()) {
        batch.delete(role_key(role.oid));
    }
    for role in after.roles().filter(|role| before.role(role.oid) != Some(role)) {
        batch.put(role_key(role.oid), role.to_record());
    }
    if before.next_id() != after.next_id() {
        batch.put(NEXT, after.next_id().0.to_be_bytes());
    }
    if batch.is_empty() { Ok(()) } else { store.commit(batch) }
}

fn object_key(id: RelationId) -> Vec<u8> {
    [OBJECTS, &id.0.to_be_bytes()].concat()
}

fn function_key(id: RelationId) -> Vec<u8> {
    [FUNCTIONS, &id.0.to_be_bytes()].concat()
}

fn schema_key(name: &str) -> Vec<u8> {
    [SCHEMAS, name.as_bytes()].concat()
}

fn comment_key(on: Commented) -> Vec<u8> {
    let numbers = [on.class.relation().0, on.oid, on.column].map(u32::to_be_bytes);
    [COMMENTS, numbers.concat().as_slice()].concat()
}

fn commented(key: &[u8]) -> Result<Commented> {
    let bad = || corrupted("what a comment is about");
    let [class, oid, column] = key.as_chunks::<4>().0 else { return Err(bad()) };
    let class = Class::from_oid(u32::from_be_bytes(*class)).ok_or_else(bad)?;
    Ok(Commented { class, oid: u32::from_be_bytes(*oid), column: u32::from_be_bytes(*column) })
}

fn role_key(oid: u32) -> Vec<u8> {
    [ROLES, &oid.to_be_bytes()].concat()
}

fn number(record: &[u8]) -> Result<u32> {
    Ok(u32::from_be_bytes(record.try_into().map_err(|_| corrupted("a number"))?))
}

fn corrupted(what: &str) -> Error {
    Error::new(SqlState::DATA_CORRUPTED, format!("unreadable catalog record: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Column, ObjectKind, QualifiedName};
    use crate::state::store::MemoryStore;
    use crate::types::PgType;

    fn table(catalog: &mut Catalog, name: &str) -> Object {
        Object {
            id: catalog.allocate_id(),
            name: QualifiedName { schema: "public".into(), name: name.into() },
            kind: ObjectKind::table(vec![0]),
            columns: vec![Column { name: "id".into(), pg_type: PgType::Int4, nullable: false, default: None }],
            definition: format!("CREATE TABLE {name} (id int PRIMARY KEY)"),
            depends_on: vec![],
            indexes: vec![],
        }
    }

    #[test]
    fn what_was_saved_is_loaded() -> Result<()> {
        let store = MemoryStore::default();
        let empty = load(&store)?;
        let mut one = empty.clone();
        one.create_schema("sales")?;
        let (a, b) = (table(&mut one, "a"), table(&mut one, "b"));
        let a = one.insert(a)?;
        one.insert(b)?;
        let column = Commented { class: Class::Relation, oid: a.id.0, column: 1 };
        one.set_comment(column, Some("the number".into()));
        let mut role = Role { can_login: true, ..Role::new(one.allocate_id().0, "ann") };
        one.put_role(role.clone())?;
        save(&store, &empty, &one)?;
        let mut two = load(&store)?;
        assert_eq!(two.find_role("ann").map(|role| role.can_login), Some(true));
        assert!(
            two.find_role(crate::catalog::USER).is_some_and(|role| role.is_superuser),
            "a directory without that record has it"
        );
        role.name = "bea".into();
        two.put_role(role.clone())?;
        save(&store, &one, &two)?;
        let mut two = load(&store)?;
        assert!(two.find_role("ann").is_none() && two.find_role("bea").is_some());
        assert!(two.has_schema("sales") && two.find(None, "a").is_some() && two.next_id() == one.next_id());
        let before = two.clone();
        assert_eq!(two.comment(column), Some("the number"));
        two.remove(a.id);
        two.forget_comments_of_the_gone();
        two.drop_schema("sales")?;
        two.remove_role(&role)?;
        save(&store, &before, &two)?;
        let three = load(&store)?;
        assert!(!three.has_schema("sales") && three.find(None, "a").is_none() && three.find(None, "b").is_some());
        assert_eq!(three.comments().count(), 0);
        assert_eq!(three.roles().count(), 1);
        assert_eq!(secret(&store)?, secret(&store)?, "it is made once");
        assert_eq!(three.next_id(), one.next_id(), "an id is never used again");
        Ok(())
    }
}
