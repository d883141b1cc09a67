//! A JSON document that borrows its strings from its text.
//!
//! `serde_json::Value` copies each string and keeps each object as a tree. For
//! notes, which are small, read once and then dropped, that is most of the time
//! that a search through a directory takes. Here an object is a list, looked
//! through from its end, so that of two equal keys the last counts, as there.

use std::borrow::Cow;
use std::fmt;

use serde_core::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

pub(super) enum Value<'t> {
    Null,
    Bool(bool),
    Number(Number),
    String(Cow<'t, str>),
    Array(Vec<Value<'t>>),
    Object(Entries<'t>),
}

/// What an object holds, in the order of the text.
pub(super) struct Entries<'t>(Vec<(Cow<'t, str>, Value<'t>)>);

impl<'t> Entries<'t> {
    pub(super) fn get(&self, key: &str) -> Option<&Value<'t>> {
        self.0.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value)
    }
}

impl<'t> Deserialize<'t> for Value<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Value<'t>, D::Error> {
        deserializer.deserialize_any(Builder)
    }
}

struct Builder;

impl<'t> Visitor<'t> for Builder {
    type Value = Value<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value<'t>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value<'t>, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'t>, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'t>, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value<'t>, E> {
        // JSON has no infinities, and its parser refuses what would become one.
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'t>, E> {
        Ok(Value::String(Cow::Owned(text.to_owned())))
    }

    fn visit_borrowed_str<E>(self, text: &'t str) -> Result<Value<'t>, E> {
        Ok(Value::String(Cow::Borrowed(text)))
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut values: A) -> Result<Value<'t>, A::Error> {
        let mut array = Vec::new();
        while let Some(value) = values.next_element()? {
            array.push(value);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'t>>(self, mut entries: A) -> Result<Value<'t>, A::Error> {
        let mut object = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Key<'t>, Value<'t>>()? {
            object.push((key.0, value));
        }
        Ok(Value::Object(Entries(object)))
    }
}

/// An object's key: a string, borrowed where nothing in it is escaped.
struct Key<'t>(Cow<'t, str>);

impl<'t> Deserialize<'t> for Key<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Key<'t>, D::Error> {
        deserializer.deserialize_str(KeyBuilder)
    }
}

struct KeyBuilder;

impl<'t> Visitor<'t> for KeyBuilder {
    type Value = Key<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, text: &str) -> Result<Key<'t>, E> {
        Ok(Key(Cow::Owned(text.to_owned())))
    }

    fn visit_borrowed_str<E>(self, text: &'t str) -> Result<Key<'t>, E> {
        Ok(Key(Cow::Borrowed(text)))
    }
}
