//! A configuration's fields, each of which must be understood before a model is loaded.

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Fields that are taken one by one; what is left at the end must not matter.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
    model_type: String,
}

impl Fields {
    pub(crate) fn new(map: Map<String, Value>, model_type: &str) -> Self {
        Self { map, model_type: model_type.to_owned() }
    }

    pub(crate) fn model_type(&self) -> &str {
        &self.model_type
    }

    /// Whether the field is there, be it null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// The field's value; `None` where it is absent or null.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    pub(crate) fn size(&mut self, name: &str) -> Result<Option<usize>> {
        self.typed(name, "a whole number", |value| value.as_u64().and_then(|number| usize::try_from(number).ok()))
    }

    pub(crate) fn required_size(&mut self, name: &str) -> Result<usize> {
        self.size(name)?.ok_or_else(|| field_error(name, "a whole number", "nothing"))
    }

    pub(crate) fn number(&mut self, name: &str) -> Result<Option<f64>> {
        self.typed(name, "a number", Value::as_f64)
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Result<Option<bool>> {
        self.typed(name, "true or false", Value::as_bool)
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>> {
        self.typed(name, "a string", |value| value.as_str().map(str::to_owned))
    }

    pub(crate) fn numbers(&mut self, name: &str) -> Result<Option<Vec<f64>>> {
        self.typed(name, "a list of numbers", |value| value.as_array()?.iter().map(Value::as_f64).collect())
    }

    pub(crate) fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>> {
        self.typed(name, "a list of strings", |value| {
            value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
        })
    }

    fn typed<T>(&mut self, name: &str, expected: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => read(&value).map(Some).ok_or_else(|| field_error(name, expected, &value.to_string())),
        }
    }

    /// Refuses the model unless the field is absent or has the one value that changes nothing.
    pub(crate) fn must_be(&mut self, name: &str, neutral: &Value) -> Result<()> {
        match self.take(name) {
            None => Ok(()),
            Some(value) if value == *neutral => Ok(()),
            Some(value) => Err(self.unsupported(format!("`{name}` is {value}, only {neutral} is computed"))),
        }
    }

    pub(crate) fn unsupported(&self, reason: String) -> Error {
        Error::UnsupportedArchitecture { model_type: self.model_type.clone(), reason }
    }

    /// Refuses the model when a field is left that `harmless` does not know, unless it is switched off.
    pub(crate) fn finish(self, harmless: impl Fn(&str) -> bool) -> Result<()> {
        let off = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(true) => false,
        };
        match self.map.iter().find(|(name, value)| !harmless(name) && !off(value)) {
            None => Ok(()),
            Some((name, value)) => {
                let value: String = value.to_string().chars().take(80).collect();
                Err(self.unsupported(format!("field `{name}` ({value}) is not known and may change the mathematics")))
            }
        }
    }
}

pub(crate) fn field_error(field: &str, expected: &str, actual: &str) -> Error {
    let actual = actual.chars().take(80).collect();
    Error::ConfigField { field: field.to_owned(), expected: expected.to_owned(), actual }
}
