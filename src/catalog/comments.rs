//! COMMENT ON: what people say of objects.
//!
//! A comment hangs on an object's OID, so it follows the object under another name. The catalog keeps comments beside the
//! objects, and lets go of those whose object is gone when it is published ([`Catalog::forget_comments_of_the_gone`]).

use super::system::{self, DATABASE_OID};
use super::{Catalog, Object};
use crate::types::RelationId;

/// Which catalog lists the object: `pg_description.classoid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Relations, their columns and their indexes.
    Relation,
    Constraint,
    Function,
    Schema,
    /// Its comment is in `pg_shdescription`.
    Database,
}

impl Class {
    const ALL: [Class; 5] = [Class::Relation, Class::Constraint, Class::Function, Class::Schema, Class::Database];

    /// The OID of the catalog, and its name.
    pub fn relation(self) -> (u32, &'static str) {
        match self {
            Class::Relation => (1259, "pg_class"),
            Class::Constraint => (2606, "pg_constraint"),
            Class::Function => (1255, "pg_proc"),
            Class::Schema => (2615, "pg_namespace"),
            Class::Database => (1262, "pg_database"),
        }
    }

    pub fn from_oid(oid: u32) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.relation().0 == oid)
    }

    pub fn from_name(name: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.relation().1 == name)
    }
}

/// What a comment is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Commented {
    pub class: Class,
    pub oid: u32,
    /// From 1; 0 is the object itself.
    pub column: u32,
}

impl Commented {
    pub fn object(class: Class, oid: u32) -> Commented {
        Commented { class, oid, column: 0 }
    }
}

impl Catalog {
    pub fn comment(&self, on: Commented) -> Option<&str> {
        self.comments.get(&on).map(String::as_str)
    }

    pub fn comments(&self) -> impl Iterator<Item = (Commented, &str)> {
        self.comments.iter().map(|(on, text)| (*on, text.as_str()))
    }

    /// Nothing, or an empty text, takes the comment away.
    pub fn set_comment(&mut self, on: Commented, text: Option<String>) {
        match text.filter(|text| !text.is_empty()) {
            Some(text) => self.comments.insert(on, text),
            None => self.comments.remove(&on),
        };
        self.version += 1;
    }

    /// Whether there is anything of this identity.
    pub fn can_be_commented(&self, on: Commented) -> bool {
        match on.class {
            Class::Relation => match self.get(RelationId(on.oid)) {
                Some(object) => on.column as usize <= object.columns.len(),
                None => on.column == 0 && system::index_by_oid(self, on.oid).is_some(),
            },
            Class::Constraint => {
                let relation = system::relation_of_constraint(on.oid).and_then(|id| self.get(id));
                relation.is_some_and(|object| system::has_primary_key(object))
            }
            Class::Function => self.function(RelationId(on.oid)).is_some(),
            Class::Schema => self.schemas().any(|(_, oid)| oid == on.oid),
            Class::Database => on.oid == DATABASE_OID,
        }
    }

    pub fn forget_comments_of_the_gone(&mut self) {
        let gone: Vec<Commented> = self.comments.keys().filter(|on| !self.can_be_commented(**on)).copied().collect();
        gone.iter().for_each(|on| drop(self.comments.remove(on)));
    }

    /// `new` has taken the place of `old`: what was said of it and of its columns is said of the new one, where the columns
    /// have the same names.
    pub fn pass_comments_on(&mut self, old: &Object, new: &Object) {
        let said = self.comments.iter().filter(|(on, _)| on.class == Class::Relation && on.oid == old.id.0);
        let said: Vec<(u32, String)> = said.map(|(on, text)| (on.column, text.clone())).collect();
        for (column, text) in said {
            let place = match column.checked_sub(1).and_then(|column| old.columns.get(column as usize)) {
                None => Some(0),
                Some(then) => new.columns.iter().position(|now| now.name == then.name).map(|place| place as u32 + 1),
            };
            if let Some(column) = place {
                self.comments.insert(Commented { class: Class::Relation, oid: new.id.0, column }, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Column, Index, ObjectKind, QualifiedName};
    use crate::error::Result;
    use crate::types::PgType;

    fn object(catalog: &mut Catalog, columns: &[&str]) -> Object {
        let column =
            |name: &&str| Column { name: name.to_string(), pg_type: PgType::Int4, nullable: false, default: None };
        Object {
            id: catalog.allocate_id(),
            name: QualifiedName { schema: "public".into(), name: "t".into() },
            kind: ObjectKind::table(vec![0]),
            columns: columns.iter().map(column).collect(),
            definition: String::new(),
            depends_on: vec![],
            indexes: vec![],
        }
    }

    #[test]
    fn comments_go_with_their_objects() -> Result<()> {
        let mut catalog = Catalog::default();
        let mut table = object(&mut catalog, &["a", "b"]);
        let index = catalog.allocate_id();
        table.indexes.push(Index { id: index, name: "i".into(), columns: vec![1], unique: false });
        let id = table.id;
        catalog.insert(table.clone())?;
        let on = |class, oid, column| Commented { class, oid, column };
        let all = [
            on(Class::Relation, id.0, 0),
            on(Class::Relation, id.0, 2),
            on(Class::Relation, index.0, 0),
            on(Class::Relation, system::index_oid(id), 0),
            on(Class::Constraint, system::constraint_oid(id), 0),
        ];
        for on in all {
            assert!(catalog.can_be_commented(on), "{on:?}");
            catalog.set_comment(on, Some("said".into()));
        }
        assert!(!catalog.can_be_commented(on(Class::Relation, id.0, 3)), "there is no third column");
        table.indexes.clear();
        catalog.update(vec![table])?;
        catalog.forget_comments_of_the_gone();
        assert_eq!(catalog.comments().count(), 4, "the index has taken its own along");
        catalog.remove(id);
        catalog.forget_comments_of_the_gone();
        assert_eq!(catalog.comments().count(), 0);
        Ok(())
    }

    #[test]
    fn a_successor_inherits_by_name() -> Result<()> {
        let mut catalog = Catalog::default();
        let (old, new) = (object(&mut catalog, &["a", "b", "c"]), object(&mut catalog, &["c", "a"]));
        for (column, text) in [(0, "itself"), (1, "on a"), (2, "on b"), (3, "on c")] {
            catalog.set_comment(Commented { class: Class::Relation, oid: old.id.0, column }, Some(text.into()));
        }
        catalog.pass_comments_on(&old, &new);
        let of_new = |column| catalog.comment(Commented { class: Class::Relation, oid: new.id.0, column });
        assert_eq!((of_new(0), of_new(1), of_new(2), of_new(3)), (Some("itself"), Some("on c"), Some("on a"), None));
        Ok(())
    }
}
