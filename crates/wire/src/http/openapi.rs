//! What the OpenAPI documents of both APIs are made of: a [`Call`] for each route, put together by an [`Api`].
//!
//! The types of requests and answers describe themselves ([`utoipa`]); a [`Call`] adds what they cannot know: where it
//! is found, who may make it, and which refusals it has. What every call has in common (a request that is not well
//! formed, a fault inside, a body that is too large or too slow) is added here, so that no route forgets it.

use std::collections::BTreeMap;

use ::http::{Method, StatusCode};
use utoipa::{
    IntoParams, ToSchema,
    openapi::{
        AllOfBuilder, Components, ComponentsBuilder, Content, ContentBuilder, Header, HeaderBuilder,
        HttpMethod, InfoBuilder, License, ObjectBuilder, OpenApi, OpenApiBuilder, PathItem, PathsBuilder,
        Ref, RefOr, Required, Response, ResponseBuilder, Schema, SecurityRequirement, ServerBuilder, Type,
        path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
        request_body::{RequestBody, RequestBodyBuilder},
        schema::SchemaType,
        security::SecurityScheme,
        tag::TagBuilder,
    },
};

use super::ProblemDocument;
use crate::{ErrorCode, rest::Page};

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// The schemas that a document needs, with their names.
type Schemas = Vec<(String, RefOr<Schema>)>;

/// One API: all its calls, and how they are guarded.
#[derive(Default)]
pub struct Api {
    title: &'static str,
    version: &'static str,
    description: &'static str,
    tags: Vec<(&'static str, &'static str)>,
    securities: Vec<(&'static str, SecurityScheme)>,
    refusals: Vec<(ErrorCode, &'static str)>,
    calls: Vec<Call>,
}

/// One route of an API.
pub struct Call {
    method: HttpMethod,
    path: &'static str,
    operation: OperationBuilder,
    needs: Vec<&'static str>,
    body: Option<RequestBody>,
    answers: BTreeMap<u16, Response>,
    refusals: Vec<(ErrorCode, &'static str)>,
    schemas: Schemas,
}

impl Api {
    pub fn new(title: &'static str, version: &'static str, description: &'static str) -> Self {
        Self { title, version, description, ..Self::default() }
    }

    /// A group of calls.
    #[must_use]
    pub fn tag(mut self, name: &'static str, description: &'static str) -> Self {
        self.tags.push((name, description));
        self
    }

    /// A way to say who one is, which calls name in [`Call::needs`].
    #[must_use]
    pub fn security(mut self, name: &'static str, scheme: SecurityScheme) -> Self {
        self.securities.push((name, scheme));
        self
    }

    /// A refusal that every call has.
    #[must_use]
    pub fn refuses(mut self, code: ErrorCode, why: &'static str) -> Self {
        self.refusals.push((code, why));
        self
    }

    /// Calls of one group.
    #[must_use]
    pub fn calls(mut self, tag: &'static str, calls: impl IntoIterator<Item = Call>) -> Self {
        let tagged = calls.into_iter().map(|call| Call { operation: call.operation.tag(tag), ..call });
        self.calls.extend(tagged);
        self
    }

    /// The document.
    pub fn document(self) -> OpenApi {
        let mut paths: BTreeMap<&str, PathItem> = BTreeMap::new();
        let mut schemas = Schemas::new();
        let problem = reference::<ProblemDocument>(&mut schemas);
        for call in self.calls {
            let (method, path) = (call.method.clone(), call.path);
            let operation = call.finish(&self.refusals, &problem, &mut schemas);
            paths.entry(path).or_default().merge_operations(PathItem::new(method, operation));
        }
        let info = InfoBuilder::new()
            .title(self.title)
            .version(self.version)
            .description(Some(self.description))
            .license(Some(License::new("MIT OR Apache-2.0")));
        let mut components = ComponentsBuilder::new().schemas_from_iter(schemas);
        for (name, scheme) in self.securities {
            components = components.security_scheme(name, scheme);
        }
        for (name, header) in headers() {
            components = components.header(name, header);
        }
        let components: Components = components.build();
        let paths = paths.into_iter().fold(PathsBuilder::new(), |paths, (path, item)| paths.path(path, item));
        let tag = |(name, about)| TagBuilder::new().name(name).description(Some(about)).build();
        OpenApiBuilder::new()
            .info(info.build())
            .servers(Some([ServerBuilder::new().url("/").build()]))
            .paths(paths)
            .components(Some(components))
            .tags(Some(self.tags.into_iter().map(tag)))
            .build()
    }
}

impl Call {
    /// `id` is the name of this call in the document, `summary` a line of what it does.
    pub fn new(method: &Method, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        let method = match *method {
            Method::POST => HttpMethod::Post,
            Method::PUT => HttpMethod::Put,
            Method::PATCH => HttpMethod::Patch,
            Method::DELETE => HttpMethod::Delete,
            _ => HttpMethod::Get,
        };
        Self {
            method,
            path,
            operation: OperationBuilder::new().operation_id(Some(id)).summary(Some(summary)),
            needs: Vec::new(),
            body: None,
            answers: BTreeMap::new(),
            refusals: Vec::new(),
            schemas: Schemas::new(),
        }
    }

    pub fn get(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(&Method::GET, path, id, summary)
    }

    pub fn post(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(&Method::POST, path, id, summary)
    }

    pub fn put(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(&Method::PUT, path, id, summary)
    }

    pub fn patch(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(&Method::PATCH, path, id, summary)
    }

    pub fn delete(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(&Method::DELETE, path, id, summary)
    }

    /// What there is to know besides the summary.
    #[must_use]
    pub fn says(self, description: &'static str) -> Self {
        Self { operation: self.operation.description(Some(description)), ..self }
    }

    /// Any one of these securities will do; an empty name is nobody in particular.
    #[must_use]
    pub fn needs(mut self, securities: &[&'static str]) -> Self {
        for name in securities {
            if !self.needs.contains(name) {
                self.needs.push(name);
            }
        }
        self
    }

    /// A part of the path.
    #[must_use]
    pub fn part<T: ToSchema>(mut self, name: &'static str, description: &'static str) -> Self {
        let schema = reference::<T>(&mut self.schemas);
        self.parameter(ParameterIn::Path, name, description, schema)
    }

    /// The parameters of the query.
    #[must_use]
    pub fn query<T: IntoParams>(mut self) -> Self {
        for mut parameter in T::into_params(|| Some(ParameterIn::Query)) {
            parameter.schema = parameter.schema.map(never_null);
            self.operation = self.operation.parameter(parameter);
        }
        self
    }

    /// A header that the call looks at.
    #[must_use]
    pub fn header(self, name: &'static str, description: &'static str, pattern: &'static str) -> Self {
        let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
        self.parameter(ParameterIn::Header, name, description, schema.into())
    }

    /// A JSON body.
    #[must_use]
    pub fn body<T: ToSchema>(self) -> Self {
        self.body_as::<T>(JSON)
    }

    /// A body of some type; a call that takes several is told of each.
    #[must_use]
    pub fn body_as<T: ToSchema>(mut self, media_type: &'static str) -> Self {
        let schema = reference::<T>(&mut self.schemas);
        let body = self.body.map_or_else(RequestBodyBuilder::new, RequestBodyBuilder::from);
        let body = body.required(Some(Required::True)).content(media_type, Content::new(Some(schema)));
        self.body = Some(body.build());
        self
    }

    /// A JSON answer.
    #[must_use]
    pub fn answers<T: ToSchema>(mut self, status: StatusCode, description: &'static str) -> Self {
        let schema = reference::<T>(&mut self.schemas);
        self.answer(status, description, JSON, schema)
    }

    /// A JSON answer that another standard describes.
    #[must_use]
    pub fn object(self, description: &'static str) -> Self {
        let schema = ObjectBuilder::new().schema_type(Type::Object);
        self.answer(StatusCode::OK, description, JSON, schema.into())
    }

    /// A page of a list.
    #[must_use]
    pub fn lists<T: ToSchema>(mut self, description: &'static str) -> Self {
        let name = format!("{}Page", T::name());
        T::schemas(&mut self.schemas);
        self.schemas.push((T::name().into_owned(), T::schema()));
        self.schemas.push((name.clone(), <Page<T> as utoipa::PartialSchema>::schema()));
        self.answer(StatusCode::OK, description, JSON, Ref::from_schema_name(name).into())
    }

    /// An answer that is text.
    #[must_use]
    pub fn text(self, media_type: &'static str, description: &'static str) -> Self {
        let schema = ObjectBuilder::new().schema_type(Type::String);
        self.answer(StatusCode::OK, description, media_type, schema.into())
    }

    /// Server-sent events, each with the name of its kind, and all that there is to say in JSON.
    #[must_use]
    pub fn events<T: ToSchema>(mut self, description: &'static str) -> Self {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let data = text()
            .content_media_type(JSON)
            .content_schema(Some(reference::<T>(&mut self.schemas)))
            .description(Some("What happened."));
        let event = ObjectBuilder::new()
            .property("event", text().description(Some("The name of its kind.")))
            .property("id", text().description(Some("Its number, for `Last-Event-ID`.")))
            .property("data", data)
            .required("event")
            .required("data");
        self.answer(StatusCode::OK, description, "text/event-stream", event.into())
    }

    /// An answer with a body of any type and any bytes.
    #[must_use]
    pub fn bytes(mut self, status: StatusCode, description: &'static str) -> Self {
        let response = ResponseBuilder::new().description(description);
        self.answers.insert(status.as_u16(), response.content("*/*", ContentBuilder::new().build()).build());
        self
    }

    /// An answer without a body.
    #[must_use]
    pub fn nothing(mut self, status: StatusCode, description: &'static str) -> Self {
        self.answers.insert(status.as_u16(), Response::new(description));
        self
    }

    /// A header of an answer that was told of before.
    #[must_use]
    pub fn with_header(mut self, status: StatusCode, name: &'static str, description: &'static str) -> Self {
        if let Some(response) = self.answers.get_mut(&status.as_u16()) {
            response.headers.insert(name.to_owned(), text_header(description).into());
        }
        self
    }

    /// A refusal of this call, and when it comes.
    #[must_use]
    pub fn refuses(mut self, code: ErrorCode, why: &'static str) -> Self {
        self.refusals.push((code, why));
        self
    }

    fn parameter(
        mut self,
        place: ParameterIn,
        name: &'static str,
        description: &'static str,
        schema: RefOr<Schema>,
    ) -> Self {
        let required = if place == ParameterIn::Path { Required::True } else { Required::False };
        let parameter: Parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(required)
            .description(Some(description))
            .schema(Some(schema))
            .build();
        self.operation = self.operation.parameter(parameter);
        self
    }

    fn answer(
        mut self,
        status: StatusCode,
        description: &'static str,
        media_type: &'static str,
        schema: RefOr<Schema>,
    ) -> Self {
        let response = ResponseBuilder::new().description(description);
        let response = response.content(media_type, Content::new(Some(schema))).build();
        self.answers.insert(status.as_u16(), response);
        self
    }

    fn finish(
        self,
        of_all: &[(ErrorCode, &'static str)],
        problem: &RefOr<Schema>,
        schemas: &mut Schemas,
    ) -> Operation {
        let mut refusals = vec![
            (ErrorCode::InvalidArgument, "The request is not well formed; `detail` names what was wrong."),
            (ErrorCode::Internal, "Something broke; the log has the cause under this `request_id`."),
        ];
        if self.body.is_some() {
            refusals.push((ErrorCode::TooLarge, "The body is larger than this call takes."));
            refusals.push((ErrorCode::Timeout, "The body came too slowly."));
            refusals.push((ErrorCode::UnsupportedMediaType, "The body has a `Content-Encoding`."));
        }
        refusals.extend(of_all);
        refusals.extend(self.refusals);

        let mut by_status: BTreeMap<u16, Vec<(ErrorCode, &str)>> = BTreeMap::new();
        for (code, why) in refusals {
            let told: &mut Vec<_> = by_status.entry(code.http_status().as_u16()).or_default();
            if !told.contains(&(code, why)) {
                told.push((code, why));
            }
        }
        let mut operation = self.operation.request_body(self.body);
        for name in self.needs {
            operation = operation.security(match name {
                "" => SecurityRequirement::default(),
                name => SecurityRequirement::new(name, [""; 0]),
            });
        }
        for (status, response) in self.answers {
            operation = operation.response(status.to_string(), with_request_id(response));
        }
        for (status, refusals) in by_status {
            operation = operation.response(status.to_string(), refusal(status, &refusals, problem, schemas));
        }
        schemas.extend(self.schemas);
        operation.build()
    }
}

/// Method, path and description of every call of a document.
pub fn calls(document: &OpenApi) -> Vec<(Method, &str, &Operation)> {
    let mut calls = Vec::new();
    for (path, item) in &document.paths.paths {
        let operations = [
            (Method::GET, &item.get),
            (Method::POST, &item.post),
            (Method::PUT, &item.put),
            (Method::PATCH, &item.patch),
            (Method::DELETE, &item.delete),
        ];
        let there = operations.into_iter().filter_map(|(method, call)| Some((method, call.as_ref()?)));
        calls.extend(there.map(|(method, call)| (method, path.as_str(), call)));
    }
    calls
}

/// Notes the schema and all that it refers to, and gives the way to it.
fn reference<T: ToSchema>(schemas: &mut Schemas) -> RefOr<Schema> {
    T::schemas(schemas);
    schemas.push((T::name().into_owned(), T::schema()));
    Ref::from_schema_name(T::name()).into()
}

/// A problem document whose `code` is one of these: a schema of its own, as many calls have the same.
fn refusal(
    status: u16,
    refusals: &[(ErrorCode, &str)],
    problem: &RefOr<Schema>,
    schemas: &mut Schemas,
) -> Response {
    let mut codes: Vec<&str> = refusals.iter().map(|(code, _)| code.as_str()).collect();
    codes.sort_unstable();
    codes.dedup();
    let name = format!("Problem.{}", codes.join("."));
    let code = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes));
    let code = code.description(Some("What went wrong."));
    let narrowed = ObjectBuilder::new().property("code", code);
    schemas
        .push((name.clone(), Schema::from(AllOfBuilder::new().item(problem.clone()).item(narrowed)).into()));
    let lines: Vec<String> = refusals.iter().map(|(code, why)| format!("`{code}`: {why}")).collect();
    let mut response = ResponseBuilder::new()
        .description(lines.join("\n\n"))
        .content(PROBLEM, Content::new(Some(Ref::from_schema_name(name))));
    match status {
        401 => response = response.header_ref("WWW-Authenticate", of_headers("WWW-Authenticate")),
        429 | 503 => response = response.header_ref("Retry-After", of_headers("Retry-After")),
        _ => {}
    }
    with_request_id(response.build())
}

fn with_request_id(mut response: Response) -> Response {
    response.headers.insert("X-Request-Id".to_owned(), RefOr::Ref(of_headers("X-Request-Id")));
    response
}

fn of_headers(name: &str) -> Ref {
    Ref::new(format!("#/components/headers/{name}"))
}

/// The headers that answers of every call may have.
fn headers() -> [(&'static str, Header); 3] {
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    let seconds = HeaderBuilder::new()
        .schema(Some(seconds))
        .description(Some("Seconds after which asking again may help."));
    [
        ("Retry-After", seconds.build()),
        ("WWW-Authenticate", text_header("`Bearer`.")),
        (
            "X-Request-Id",
            text_header(
                "The id of this request in the log: the caller's own `X-Request-Id` where that has 1 to 64 letters, \
                 digits and `-`, else a new one.",
            ),
        ),
    ]
}

fn text_header(description: &str) -> Header {
    let text = ObjectBuilder::new().schema_type(Type::String);
    HeaderBuilder::new().schema(Some(text)).description(Some(description)).build()
}

/// A parameter is there or not; what an `Option` may be besides has no place in a query.
fn never_null(schema: RefOr<Schema>) -> RefOr<Schema> {
    match schema {
        RefOr::T(Schema::Object(mut object)) => {
            if let SchemaType::Array(types) = &object.schema_type
                && let [kind, Type::Null] | [Type::Null, kind] = types.as_slice()
            {
                object.schema_type = SchemaType::Type(kind.clone());
            }
            RefOr::T(Schema::Object(object))
        }
        RefOr::T(Schema::OneOf(one_of)) => {
            let is_null = |item: &RefOr<Schema>| matches!(item, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null));
            let mut others = one_of.items.iter().filter(|item| !is_null(item));
            match (others.next(), others.next()) {
                (Some(only), None) => only.clone(),
                _ => RefOr::T(Schema::OneOf(one_of)),
            }
        }
        other => other,
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("title", &self.title).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("path", &self.path).finish_non_exhaustive()
    }
}
