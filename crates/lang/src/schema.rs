//! The JSON Schema of a pipeline file, for completion in editors: made from the keyword tables, so it cannot lie.

use serde_json::{Map, Value, json};

use crate::keyword::{Entry, MapShape, PIPELINE, Shape, entries};

/// The JSON Schema (draft 2020-12) of a pipeline file.
pub fn json_schema() -> String {
    let mut definitions = Map::new();
    let mut schema = object(&entries(PIPELINE), None, &mut definitions);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Paceline pipeline");
    schema["$defs"] = Value::Object(definitions);
    format!("{schema:#}\n")
}

fn object(entries: &[&Entry], rest: Option<&Shape>, definitions: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for entry in entries {
        let mut value = shape(&entry.shape, definitions);
        value["description"] = json!(entry.doc);
        properties.insert(entry.name.to_string(), value);
    }
    let required: Vec<&str> = entries.iter().filter(|entry| entry.required).map(|entry| entry.name).collect();
    let more = rest.map_or(json!(false), |rest| shape(rest, definitions));
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": more })
}

fn shape(of: &Shape, definitions: &mut Map<String, Value>) -> Value {
    const DURATION: &str = "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";
    match of {
        // Where a text is wanted, a number or boolean is taken as it is written.
        Shape::Text | Shape::Template | Shape::Condition | Shape::Glob | Shape::Path | Shape::Scalar => {
            json!({ "type": ["string", "number", "boolean"] })
        }
        Shape::Name => json!({ "type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_-]*$" }),
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Whole(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Number(min, max) => json!({ "type": "number", "minimum": min, "maximum": max }),
        Shape::Duration => json!({ "type": "string", "pattern": DURATION, "examples": ["10m", "1h30m"] }),
        Shape::Size => json!({ "type": ["string", "integer"], "examples": ["512MiB", "4GiB"] }),
        Shape::Nothing => json!({ "type": ["object", "null"], "maxProperties": 0 }),
        Shape::Words(words) => json!({ "enum": words }),
        Shape::List(of) => json!({ "type": "array", "items": shape(of, definitions) }),
        Shape::Named(of) => json!({ "type": "object", "additionalProperties": shape(of, definitions) }),
        Shape::Map(map) => reference(map, definitions),
        Shape::Either(shapes) => {
            let any: Vec<Value> = shapes.iter().map(|of| shape(of, definitions)).collect();
            json!({ "anyOf": any })
        }
    }
}

/// A map has one definition, however often it is named.
fn reference(map: &MapShape, definitions: &mut Map<String, Value>) -> Value {
    let name = map.name.replace(' ', "_");
    if !definitions.contains_key(&name) {
        definitions.insert(name.clone(), Value::Null);
        let definition = object(&(map.entries)(), map.rest, definitions);
        definitions.insert(name.clone(), definition);
    }
    json!({ "$ref": format!("#/$defs/{name}") })
}
