//! Starting a run by hand: a form made of the pipeline's parameters.

use maud::{Markup, html};
use model::expr::Value;
use model::{Param, ParamKind};

use super::frame::{Crumb, Frame};
use super::part::{self, Field};
use super::path;
use super::project::crumb;

/// A parameter, and what stands in its field.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamField {
    /// Its name.
    pub name: String,
    /// What the pipeline says of it.
    pub param: Param,
    /// What was given; `None`: nothing yet.
    pub given: Option<String>,
}

/// What the form shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trigger {
    /// The project.
    pub project: String,
    /// The branch, tag or commit.
    pub reference: String,
    /// The file of the pipeline that is chosen.
    pub pipeline: String,
    /// Files of pipelines there.
    pub pipelines: Vec<String>,
    /// Its parameters.
    pub params: Vec<ParamField>,
    /// Why it cannot be started.
    pub trouble: String,
}

/// What a parameter is called in the form; so no name of one collides with the form's own.
pub const PARAM_PREFIX: &str = "param-";

impl Trigger {
    /// The page.
    pub fn page(&self, frame: &Frame) -> String {
        let here = path::within(&self.project, "trigger");
        let main = html! {
            h1 { "Run pipeline" }
            (part::trouble(&self.trouble))
            form method="get" action=(here) .filters aria-label="What to run" {
                (Field { required: true, ..Field::text("ref", "Branch, tag or commit", &self.reference) }.html())
                @if self.pipelines.len() > 1 {
                    @let options: Vec<(&str, &str)> = self.pipelines.iter().map(|file| (file.as_str(), file.as_str())).collect();
                    (part::select("pipeline", "Pipeline", &self.pipeline, &options))
                }
                button type="submit" { "Read pipeline" }
            }
            form method="post" action=(here) .sheet {
                (part::csrf(&frame.visitor.csrf))
                input type="hidden" name="ref" value=(self.reference);
                input type="hidden" name="pipeline" value=(self.pipeline);
                @for field in &self.params { (field.html()) }
                (part::tick("no_cache", "Take nothing from the cache", false, ""))
                div .actions { button .primary type="submit" { "Run" } }
            }
        };
        frame.page("Run pipeline", &[crumb(&self.project), Crumb::new("run pipeline", here.clone())], None, main)
    }
}

impl ParamField {
    fn html(&self) -> Markup {
        let (name, help) =
            (format!("{PARAM_PREFIX}{}", self.name), self.param.description.as_deref().unwrap_or_default());
        let value = self.given.clone().or_else(|| self.param.default.as_ref().map(text)).unwrap_or_default();
        match (&self.param.kind, self.param.choices.as_slice()) {
            (ParamKind::Boolean, _) => part::tick(&name, &self.name, value == "true", help),
            (ParamKind::String, choices @ [_, ..]) => {
                let options: Vec<(&str, &str)> = choices.iter().map(|one| (one.as_str(), one.as_str())).collect();
                part::select(&name, &self.name, &value, &options)
            }
            (kind, _) => {
                let kind = if *kind == ParamKind::Integer { "number" } else { "text" };
                let shape = self.param.pattern.as_ref().map(|pattern| format!("{help} It must match {pattern}"));
                let help = shape.as_deref().unwrap_or(help).trim_start();
                // Only a number must be filled in: an empty text is a text.
                let required = kind == "number" && self.param.default.is_none();
                Field { kind, help, required, ..Field::text(&name, &self.name, &value) }.html()
            }
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html_of(kind: ParamKind, default: Option<Value>, choices: &[&str]) -> String {
        let choices = choices.iter().map(ToString::to_string).collect();
        let param = Param { kind, default, pattern: None, choices, description: Some("a <word>".into()) };
        ParamField { name: "p".into(), param, given: None }.html().into_string()
    }

    #[test]
    fn each_type_of_parameter_has_its_own_field() {
        assert!(
            html_of(ParamKind::Boolean, Some(Value::Bool(true)), &[])
                .contains("type=\"checkbox\" value=\"true\" checked")
        );
        assert!(html_of(ParamKind::Integer, None, &[]).contains("type=\"number\" value=\"\" required"));
        assert!(
            html_of(ParamKind::String, Some(Value::Text("b".into())), &["a", "b"])
                .contains("<option value=\"b\" selected>")
        );
        assert!(html_of(ParamKind::String, None, &[]).contains("a &lt;word&gt;"));
    }
}
