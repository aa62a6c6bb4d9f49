//! The OpenAPI document: what the routes say, and what holds for all of them.

use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, InfoBuilder, PathItem, Ref, RefOr, Required, ResponseBuilder, Server};
use utoipa::{PartialSchema, ToSchema};

use super::{PREFIX, all};
use crate::problem::Problem;

const ABOUT: &str = "Everything that the pages and `pace` do. Times are ISO 8601 in UTC. Lists come in parts: `next` of one \
is `after` of the following one. What has an `etag` takes it back in `if-match`. Errors are `application/problem+json` (RFC \
9457) with a stable `type`.";

/// The document as JSON.
pub fn document() -> String {
    let (_, mut document) = all().split_for_parts();
    document.info = InfoBuilder::new().title("Paceline").version("1").description(Some(ABOUT)).build();
    document.servers = Some(vec![Server::new(PREFIX)]);
    for (path, item) in &mut document.paths.paths {
        let names: Vec<String> = names_of(path);
        operations(item).for_each(|operation| complete(operation, &names));
    }
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.security_schemes.insert("token".into(), RefOr::T(SecurityScheme::Http(bearer)));
    components.schemas.insert(Problem::name().into_owned(), Problem::schema());
    document.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("token", [])]);
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// What is in braces in a path.
fn names_of(path: &str) -> Vec<String> {
    path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).map(str::to_owned).collect()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten()
}

fn complete(operation: &mut Operation, names: &[String]) {
    let parameters = operation.parameters.get_or_insert_default();
    for name in names.iter().rev() {
        let text = utoipa::openapi::schema::Type::String;
        let schema = utoipa::openapi::schema::Object::with_type(text);
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True);
        parameters.insert(0, RefOr::T(parameter.schema(Some(schema)).build()));
    }
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
    let problem = ResponseBuilder::new().description("Why not").content("application/problem+json", body).build();
    operation.responses.responses.insert("default".into(), RefOr::T(problem));
}
