//! What the tables must hold, and the random statements that change them.
//!
//! Keys and values come from small ranges, so that groups collide, join partners exist, and duplicates and
//! conflicts are common; a tenth of the values is NULL.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;

const IDS: i64 = 60;
const GROUPS: i64 = 8;
const NAMES: &[&str] = &["apple", "banana", "blue", "cherry", "Zoë", "", "a,b", "quote'd"];

#[derive(Clone, Debug)]
struct Item {
    grp: Option<i64>,
    amount: Option<i64>,
    cents: Option<i64>,
    name: Option<&'static str>,
    /// Minutes after the start of 2013.
    minute: Option<i64>,
    flag: Option<bool>,
    quarters: Option<i64>,
}

/// From, to, note.
type Link = (Option<i64>, Option<i64>, Option<&'static str>);

/// A copy of the three tables.
#[derive(Clone, Default)]
pub struct Model {
    items: BTreeMap<i64, Item>,
    /// Rows with how often they are there.
    links: BTreeMap<Link, usize>,
    labels: BTreeMap<i64, &'static str>,
}

impl Model {
    /// Makes a random statement and does to the model what it will do to the tables.
    pub fn change(&mut self, random: &mut StdRng) -> String {
        match random.random_range(0..100) {
            0..22 => self.insert_items(random),
            22..30 => self.upsert_items(random),
            30..44 => self.update_one_item(random),
            44..52 => self.update_group(random),
            52..60 => self.delete_items(random),
            60..62 => self.move_keys(random),
            62..78 => self.insert_links(random),
            78..84 => self.delete_links(random),
            84..89 => self.update_links(random),
            89..95 => self.upsert_label(random),
            95..98 => self.delete_label(random),
            98 => {
                self.links.clear();
                "DELETE FROM links".to_string()
            }
            _ => {
                self.items.clear();
                "TRUNCATE items".to_string()
            }
        }
    }

    /// All rows as `table(text of the row)`, with how often each is there.
    pub fn contents(&self) -> BTreeMap<String, usize> {
        let mut contents = BTreeMap::new();
        for (id, item) in &self.items {
            contents.insert(format!("items({id},{})", item.shown()), 1);
        }
        for ((a, b, note), count) in &self.links {
            contents.insert(format!("links({},{},{})", number(*a), number(*b), note.unwrap_or("NULL")), *count);
        }
        for (grp, label) in &self.labels {
            contents.insert(format!("labels({grp},{label})"), 1);
        }
        contents
    }

    fn insert_items(&mut self, random: &mut StdRng) -> String {
        let mut values = vec![];
        for _ in 0..batch(random) {
            let id = random.random_range(0..IDS);
            if let std::collections::btree_map::Entry::Vacant(free) = self.items.entry(id) {
                let item = free.insert(Item::random(random));
                values.push(format!("({id}, {})", item.literal()));
            }
        }
        if values.is_empty() {
            return "DELETE FROM items WHERE id = -1".to_string();
        }
        format!("INSERT INTO items VALUES {}", values.join(", "))
    }

    /// The conflicting row takes the new amount on top of its own; NULL stays NULL.
    fn upsert_items(&mut self, random: &mut StdRng) -> String {
        let mut values = BTreeMap::new();
        for _ in 0..batch(random).min(20) {
            values.insert(random.random_range(0..IDS), Item::random(random));
        }
        let text: Vec<String> = values.iter().map(|(id, item)| format!("({id}, {})", item.literal())).collect();
        for (id, new) in values {
            match self.items.get_mut(&id) {
                None => {
                    self.items.insert(id, new);
                }
                Some(old) => {
                    old.amount = old.amount.zip(new.amount).map(|(old, new)| (old + new) % 1000);
                    old.name = new.name;
                }
            }
        }
        format!(
            "INSERT INTO items VALUES {} ON CONFLICT (id) DO UPDATE SET amount = (items.amount + excluded.amount) % 1000, name = excluded.name",
            text.join(", ")
        )
    }

    fn update_one_item(&mut self, random: &mut StdRng) -> String {
        let id = random.random_range(0..IDS);
        let new = Item::random(random);
        let sql = format!(
            "UPDATE items SET (grp, amount, price, name, ts, flag, weight) = ({}) WHERE id = {id}",
            new.literal()
        );
        if let Some(item) = self.items.get_mut(&id) {
            *item = new;
        }
        sql
    }

    fn update_group(&mut self, random: &mut StdRng) -> String {
        let (grp, by) = (random.random_range(0..GROUPS), random.random_range(-5..6));
        for item in self.items.values_mut().filter(|item| item.grp == Some(grp)) {
            item.amount = item.amount.map(|amount| amount + by);
            item.flag = item.flag.map(|flag| !flag);
        }
        format!("UPDATE items SET amount = amount + {by}, flag = NOT flag WHERE grp = {grp}")
    }

    fn delete_items(&mut self, random: &mut StdRng) -> String {
        if random.random_bool(0.5) {
            let id = random.random_range(0..IDS);
            self.items.remove(&id);
            return format!("DELETE FROM items WHERE id = {id}");
        }
        let low = random.random_range(-100..100);
        let high = low + random.random_range(0..20);
        self.items.retain(|_, item| item.amount.is_none_or(|amount| amount < low || amount > high));
        format!("DELETE FROM items WHERE amount BETWEEN {low} AND {high}")
    }

    /// Every key changes at once: all keys stay distinct, though each new key was another row's.
    fn move_keys(&mut self, random: &mut StdRng) -> String {
        let by = random.random_range(1..IDS);
        self.items = self.items.iter().map(|(id, item)| ((id + by) % IDS, item.clone())).collect();
        format!("UPDATE items SET id = (id + {by}) % {IDS}")
    }

    fn insert_links(&mut self, random: &mut StdRng) -> String {
        let mut values = vec![];
        for _ in 0..batch(random) {
            let link = (maybe(random, IDS / 2), maybe(random, IDS / 2), name(random));
            values.push(format!("({}, {}, {})", number(link.0), number(link.1), quoted(link.2)));
            *self.links.entry(link).or_default() += 1;
        }
        format!("INSERT INTO links VALUES {}", values.join(", "))
    }

    fn delete_links(&mut self, random: &mut StdRng) -> String {
        let a = random.random_range(0..IDS / 2);
        self.links.retain(|link, _| link.0 != Some(a));
        format!("DELETE FROM links WHERE a = {a}")
    }

    fn update_links(&mut self, random: &mut StdRng) -> String {
        let (b, new) = (random.random_range(0..IDS / 2), maybe(random, IDS / 2));
        let mut changed = BTreeMap::new();
        for ((a, old, note), count) in &self.links {
            let kept = if *old == Some(b) { new } else { *old };
            *changed.entry((*a, kept, *note)).or_default() += count;
        }
        self.links = changed;
        format!("UPDATE links SET b = {} WHERE b = {b}", number(new))
    }

    fn upsert_label(&mut self, random: &mut StdRng) -> String {
        let grp = random.random_range(0..GROUPS);
        let label = NAMES[random.random_range(0..NAMES.len())];
        let keep = random.random_bool(0.3);
        if !keep || !self.labels.contains_key(&grp) {
            self.labels.insert(grp, label);
        }
        let action = if keep { "DO NOTHING" } else { "DO UPDATE SET label = excluded.label" };
        format!("INSERT INTO labels VALUES ({grp}, {}) ON CONFLICT (grp) {action}", quoted(Some(label)))
    }

    fn delete_label(&mut self, random: &mut StdRng) -> String {
        let grp = random.random_range(0..GROUPS);
        self.labels.remove(&grp);
        format!("DELETE FROM labels WHERE grp = {grp}")
    }
}

impl Item {
    fn random(random: &mut StdRng) -> Item {
        Item {
            grp: maybe(random, GROUPS),
            amount: maybe(random, 200).map(|amount| amount - 100),
            cents: maybe(random, 20_000).map(|cents| cents - 5_000),
            name: name(random),
            minute: maybe(random, 120),
            flag: maybe(random, 2).map(|flag| flag == 1),
            quarters: maybe(random, 400).map(|quarters| quarters - 200),
        }
    }

    /// The columns after the key, as SQL.
    fn literal(&self) -> String {
        format!(
            "{}, {}, {}, {}, {}, {}, {}",
            number(self.grp),
            number(self.amount),
            self.cents.map_or("NULL".to_string(), money),
            quoted(self.name),
            self.minute.map_or("NULL".to_string(), |minute| format!("TIMESTAMP '{}'", instant(minute))),
            self.flag.map_or("NULL", |flag| if flag { "true" } else { "false" }),
            self.quarters.map_or("NULL".to_string(), |quarters| format!("{}", quarters as f64 / 4.0)),
        )
    }

    /// The columns after the key, as a client gets them.
    fn shown(&self) -> String {
        format!(
            "{},{},{},{},{},{},{}",
            number(self.grp),
            number(self.amount),
            self.cents.map_or("NULL".to_string(), money),
            self.name.unwrap_or("NULL"),
            self.minute.map_or("NULL".to_string(), instant),
            self.flag.map_or("NULL", |flag| if flag { "t" } else { "f" }),
            self.quarters.map_or("NULL".to_string(), |quarters| format!("{}", quarters as f64 / 4.0)),
        )
    }
}

/// Mostly a few rows, sometimes many.
fn batch(random: &mut StdRng) -> usize {
    if random.random_bool(0.1) { random.random_range(20..60) } else { random.random_range(1..6) }
}

fn maybe(random: &mut StdRng, below: i64) -> Option<i64> {
    if random.random_bool(0.1) { None } else { Some(random.random_range(0..below)) }
}

fn name(random: &mut StdRng) -> Option<&'static str> {
    maybe(random, NAMES.len() as i64).map(|index| NAMES[index as usize])
}

fn number(value: Option<i64>) -> String {
    value.map_or("NULL".to_string(), |value| value.to_string())
}

fn quoted(value: Option<&str>) -> String {
    value.map_or("NULL".to_string(), |value| format!("'{}'", value.replace('\'', "''")))
}

fn money(cents: i64) -> String {
    format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100)
}

fn instant(minute: i64) -> String {
    format!("2013-01-01 {:02}:{:02}:00", minute / 60, minute % 60)
}
