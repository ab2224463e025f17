//! What can be called, as an OpenAPI 3.1 description: `GET {path}/call/openapi.json`.
//!
//! It is made anew for each request, from the handlers that the namespaces have at that moment.
//! Types of arguments aren't known, so a body is any list. Events whose name no URL can hold are
//! left out.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::path::Address;
use crate::server::{Namespace, handlers::listeners::Listeners};

/// Each error that a call may be answered with.
const ERRORS: [(&str, &str); 12] = [
    (
        "400",
        "The path, the body, the auth header or the arguments are wrong.",
    ),
    (
        "401",
        "A middleware of the namespace refused the call; `message` and `data` are its own.",
    ),
    (
        "403",
        "Pages of this origin may not call, or the server refused the request.",
    ),
    ("404", "There is no such namespace or event."),
    ("405", "Calls are made by POST."),
    ("408", "The body did not arrive in time."),
    ("413", "The body is too large."),
    ("415", "The body is not said to be JSON."),
    ("429", "Too many calls of this caller run: see Retry-After."),
    ("500", "The handler failed, or its answer can't be JSON."),
    (
        "503",
        "Too many calls run, or the server shuts down: see Retry-After.",
    ),
    (
        "504",
        "No answer in time. The handler may have done what it was called for.",
    ),
];

/// Describes the events of these namespaces that have handlers now.
pub(super) fn describe(namespaces: &[Namespace]) -> Bytes {
    let mut paths = Map::new();
    for namespace in namespaces {
        for lists in namespace
            .all_listeners()
            .into_iter()
            .flatten()
            .map(Listeners::lists)
        {
            for event in lists.names() {
                if let Some(path) = Address::path(namespace.name(), event) {
                    paths.insert(path, json!({ "post": operation(namespace.name(), event) }));
                }
            }
        }
    }
    let responses: Map<String, Value> = ERRORS
        .iter()
        .map(|(status, description)| {
            let response = json!({
                "description": description,
                "content": { "application/json": {
                    "schema": { "$ref": "#/components/schemas/Error" },
                } },
            });
            ((*status).to_owned(), response)
        })
        .collect();
    let description = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Calls by HTTP",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Events of a Socket.IO server, for where no connection can be made. \
                Binary data can neither be sent nor received.",
        },
        // Relative to where this description is.
        "servers": [{ "url": "../call" }],
        "security": [{}, { "auth": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "auth": {
                "type": "apiKey",
                "in": "header",
                "name": "Antiphon-Auth",
                "description": "The auth payload, which the middlewares of the namespace ask for: \
                    one JSON object in ASCII, with \\u escapes for all other characters.",
            } },
            "parameters": { "t": {
                "name": "t",
                "in": "query",
                "required": false,
                "description": "A token of at most 64 bytes that is new for each call. The same \
                    call with the same token isn't run again, but gets the answer of the first.",
                "schema": { "type": "string", "maxLength": 64 },
            } },
            "schemas": {
                "Arguments": {
                    "type": "array",
                    "description": "The arguments of the event.",
                    "items": true,
                },
                "Answer": {
                    "type": "array",
                    "description": "The arguments of the acknowledgement.",
                    "items": true,
                },
                "Error": {
                    "type": "object",
                    "required": ["code", "message", "hint"],
                    "properties": {
                        "code": { "type": "string", "description": "For programs." },
                        "message": { "type": "string", "description": "What happened." },
                        "hint": { "type": "string", "description": "What to do about it." },
                        "path": { "type": "string", "description": "Where the arguments don't fit." },
                        "data": { "description": "What the middleware that refused adds." },
                    },
                },
            },
            "responses": responses,
        },
    });
    description.to_string().into()
}

fn operation(namespace: &str, event: &str) -> Value {
    let errors = ERRORS.iter().map(|(status, _)| {
        let response = json!({ "$ref": format!("#/components/responses/{status}") });
        ((*status).to_owned(), response)
    });
    let answer = json!({
        "description": "The handler has answered.",
        "content": { "application/json": {
            "schema": { "$ref": "#/components/schemas/Answer" },
        } },
    });
    let responses: Map<String, Value> = errors.chain([("200".to_owned(), answer)]).collect();
    json!({
        "operationId": format!("{namespace} {event}"),
        "summary": format!("{event} in {namespace}"),
        "tags": [namespace],
        "parameters": [{ "$ref": "#/components/parameters/t" }],
        "requestBody": {
            "required": false,
            "content": { "application/json": {
                "schema": { "$ref": "#/components/schemas/Arguments" },
            } },
        },
        "responses": responses,
    })
}
