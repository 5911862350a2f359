//! What the MCP conformance suite asks a server for, on top of the real server: everything else goes through to it. Only in builds for tests.
//!
//! The names and texts are the suite's (<https://github.com/modelcontextprotocol/conformance>, 0.1.16 and 0.2.0-alpha.12).
#![expect(
    deprecated,
    reason = "the suite asks for what the protocol has deprecated, too"
)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmcp::ErrorData;
use rmcp::handler::server::ServerHandler;
use rmcp::model::*;
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext, SubscriptionSink};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::server::Server;

/// One red pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
/// No sound at all.
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=";

/// The real server, with what the suite asks for.
#[derive(Clone)]
pub(super) struct Fixture {
    server: Server,
    subscriptions: Arc<Mutex<HashMap<u64, SubscriptionSink>>>,
    number: Arc<AtomicU64>,
    codec: Arc<RequestStateCodec>,
}

type Called = Result<CallToolResponse, ErrorData>;

fn of<T: DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value)
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn text(text: impl Into<String>) -> Called {
    Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
}

fn content(list: Value) -> Called {
    Ok(CallToolResult::success(of(list)?).into())
}

/// The tools without parameters of note: name, description.
const PLAIN: [(&str, &str); 21] = [
    ("test_simple_text", "Answers with text"),
    ("test_image_content", "Answers with an image"),
    ("test_audio_content", "Answers with sound"),
    ("test_embedded_resource", "Answers with a resource"),
    (
        "test_multiple_content_types",
        "Answers with several kinds of content",
    ),
    ("test_tool_with_logging", "Writes log messages"),
    ("test_error_handling", "Fails"),
    ("test_tool_with_progress", "Tells how far it is"),
    ("test_elicitation_sep1034_defaults", "Asks with defaults"),
    ("test_elicitation_sep1330_enums", "Asks with enumerations"),
    ("test_reconnection", "Takes longer than the connection"),
    (
        "test_trigger_tool_change",
        "Says that the list of tools changed",
    ),
    (
        "test_trigger_prompt_change",
        "Says that the list of prompts changed",
    ),
    ("test_missing_capability", "Needs sampling"),
    ("test_streaming_elicitation", "Asks by its result"),
    (
        "test_logging_tool",
        "Writes a log message if that was asked for",
    ),
    ("test_input_required_result_elicitation", "Asks for a name"),
    ("test_input_required_result_sampling", "Asks a model"),
    ("test_input_required_result_list_roots", "Asks for roots"),
    (
        "test_input_required_result_request_state",
        "Goes on from its own state",
    ),
    (
        "test_input_required_result_multiple_inputs",
        "Asks for three things at once",
    ),
];

fn tools() -> Result<Vec<Tool>, ErrorData> {
    let plain = |(name, description): (&str, &str)| json!({"name": name, "description": description, "inputSchema": {"type": "object", "properties": {}}});
    let mut all: Vec<Value> = PLAIN.into_iter().map(plain).collect();
    all.extend(
        [
            ("test_input_required_result_multi_round", "Asks twice"),
            (
                "test_input_required_result_tampered_state",
                "Refuses a forged state",
            ),
            (
                "test_input_required_result_capabilities",
                "Asks for what the client can do",
            ),
        ]
        .into_iter()
        .map(plain),
    );
    all.push(json!({"name": "test_sampling", "description": "Asks a model", "inputSchema": {"type": "object", "properties": {"prompt": {"type": "string"}}, "required": ["prompt"]}}));
    all.push(json!({"name": "test_elicitation", "description": "Asks the user", "inputSchema": {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}}));
    all.push(json!({"name": "test_custom_header", "description": "Has a parameter in a header",
        "inputSchema": {"type": "object", "properties": {"value": {"type": "string", "x-mcp-header": "Value"}}, "required": ["value"]}}));
    all.push(json!({"name": "json_schema_2020_12_tool", "description": "Has a schema of many keywords", "inputSchema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
        "$defs": {"address": {"$anchor": "address", "type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}},
        "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
        "allOf": [{"anyOf": [{"required": ["name"]}, {"required": ["address"]}]}],
        "if": {"required": ["address"]}, "then": {"properties": {"address": {"required": ["street"]}}}, "else": {"required": ["name"]},
        "additionalProperties": false}}));
    of(Value::Array(all))
}

fn form(message: &str, schema: Value) -> Result<ElicitRequestParams, ErrorData> {
    of(json!({"mode": "form", "message": message, "requestedSchema": schema}))
}

fn ask_form(message: &str, name: &str, kind: &str) -> Value {
    json!({"method": "elicitation/create", "params": {"mode": "form", "message": message,
        "requestedSchema": {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}}})
}

fn ask_model(prompt: &str) -> Value {
    json!({"method": "sampling/createMessage", "params": {"messages": [{"role": "user", "content": {"type": "text", "text": prompt}}], "maxTokens": 100}})
}

fn ask_roots() -> Value {
    json!({"method": "roots/list"})
}

fn argument(params: &CallToolRequestParams, name: &str) -> Option<String> {
    let given = params.arguments.as_ref()?.get(name)?;
    given.as_str().map(str::to_owned)
}

/// Tools that always say the same.
fn said(name: &str) -> Option<Called> {
    Some(match name {
        "test_simple_text" => text("This is a simple text response for testing."),
        "test_image_content" => {
            content(json!([{"type": "image", "data": PNG, "mimeType": "image/png"}]))
        }
        "test_audio_content" => {
            content(json!([{"type": "audio", "data": WAV, "mimeType": "audio/wav"}]))
        }
        "test_embedded_resource" => content(json!([{"type": "resource", "resource":
                {"uri": "test://embedded-resource", "mimeType": "text/plain", "text": "This is an embedded resource content."}}])),
        "test_multiple_content_types" => content(json!([
                {"type": "text", "text": "Multiple content types test:"},
                {"type": "image", "data": PNG, "mimeType": "image/png"},
                {"type": "resource", "resource": {"uri": "test://mixed-content-resource", "mimeType": "application/json", "text": "{\"test\":\"data\",\"value\":123}"}}])),
        "test_error_handling" => Ok(CallToolResult::error(vec![ContentBlock::text(
            "This tool intentionally returns an error for testing",
        )])
        .into()),
        _ => return None,
    })
}

/// Tools that say what they were given, or what is missing.
fn checked(params: &CallToolRequestParams, context: &RequestContext<RoleServer>) -> Option<Called> {
    let argument = |name: &str| argument(params, name);
    Some(match params.name.as_ref() {
        "json_schema_2020_12_tool" => text(argument("name").unwrap_or_default()),
        "test_custom_header" => match argument("value") {
            Some(value) => text(value),
            None => Err(ErrorData::invalid_params("value is missing", None)),
        },
        "test_missing_capability" => {
            let can = context
                .meta
                .client_capabilities()
                .is_some_and(|capabilities| capabilities.sampling.is_some());
            match can {
                true => text("done"),
                false => Err(ErrorData::missing_required_client_capability(
                    ClientCapabilities::builder().enable_sampling().build(),
                )),
            }
        }
        _ => return None,
    })
}

impl Fixture {
    pub(super) fn new(server: Server) -> Result<Self, String> {
        let codec = RequestStateCodec::try_new(vec![7; 32]).map_err(|error| error.to_string())?;
        Ok(Self {
            server,
            subscriptions: Arc::default(),
            number: Arc::default(),
            codec: Arc::new(codec),
        })
    }

    fn ask(&self, asked: Value, state: Option<Value>) -> Called {
        let sealed = state.map(|state| self.codec.seal_json(&state)).transpose();
        let sealed = sealed.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        Ok(InputRequiredResult::new(Some(of::<InputRequests>(asked)?), sealed).into())
    }

    fn state(&self, params: &CallToolRequestParams) -> Result<Option<Value>, ErrorData> {
        let open = |sealed: &String| self.codec.open_json::<Value>(sealed);
        let opened = params.request_state.as_ref().map(open).transpose();
        opened.map_err(|_| ErrorData::invalid_params("requestState is forged", None))
    }

    async fn call(
        &self,
        params: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Option<Called> {
        let name = params.name.as_ref();
        if !name.starts_with("test_") && name != "json_schema_2020_12_tool" {
            return None;
        }
        let called = match name.starts_with("test_input_required_result_")
            || name == "test_streaming_elicitation"
        {
            true => self.call_asking(params, context),
            false => self.call_plain(params, context).await,
        };
        Some(called)
    }

    async fn call_plain(
        &self,
        params: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Called {
        let name = params.name.as_ref();
        if let Some(said) = said(name) {
            return said;
        }
        if let Some(checked) = checked(params, context) {
            return checked;
        }
        if self.notify(name, context).await {
            return text("done");
        }
        match name {
            "test_reconnection" => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                text("Reconnection test completed successfully")
            }
            _ => self.call_user(params, context).await,
        }
    }

    /// Tools that say something while they run, and nothing of note at their end.
    async fn notify(&self, name: &str, context: &RequestContext<RoleServer>) -> bool {
        let peer = &context.peer;
        match name {
            "test_tool_with_logging" => {
                for line in [
                    "Tool execution started",
                    "Tool processing data",
                    "Tool execution completed",
                ] {
                    let _ = peer
                        .notify_logging_message(LoggingMessageNotificationParam::new(
                            LoggingLevel::Info,
                            json!(line),
                        ))
                        .await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            "test_logging_tool" => {
                if let Some(level) = context.meta.log_level() {
                    let _ = peer
                        .notify_logging_message(LoggingMessageNotificationParam::new(
                            level,
                            json!("asked for"),
                        ))
                        .await;
                }
            }
            "test_tool_with_progress" => {
                if let Some(token) = context.meta.get_progress_token() {
                    for progress in [0.0, 50.0, 100.0] {
                        let _ = peer
                            .notify_progress(
                                ProgressNotificationParam::new(token.clone(), progress)
                                    .with_total(100.0),
                            )
                            .await;
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
            "test_trigger_tool_change" => {
                for sink in self.sinks() {
                    let _ = sink.notify_tool_list_changed().await;
                }
            }
            "test_trigger_prompt_change" => {
                for sink in self.sinks() {
                    let _ = sink.notify_prompt_list_changed().await;
                }
            }
            _ => return false,
        }
        true
    }

    /// Tools that ask by a request of their own.
    async fn call_user(
        &self,
        params: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Called {
        let argument = |name: &str| argument(params, name);
        let peer = &context.peer;
        match params.name.as_ref() {
            "test_sampling" => {
                let prompt = argument("prompt").unwrap_or_default();
                let asked =
                    CreateMessageRequestParams::new(vec![SamplingMessage::user_text(prompt)], 100);
                match peer.create_message(asked).await {
                    Ok(said) => {
                        let said = said
                            .message
                            .content
                            .first()
                            .and_then(|content| content.as_text())
                            .map(|text| text.text.clone());
                        text(format!("LLM response: {}", said.unwrap_or_default()))
                    }
                    Err(error) => Ok(CallToolResult::error(vec![ContentBlock::text(
                        error.to_string(),
                    )])
                    .into()),
                }
            }
            "test_elicitation" => {
                let schema = json!({"type": "object", "properties": {"username": {"type": "string", "description": "User's response"}, "email": {"type": "string", "description": "User's email address"}}, "required": ["username", "email"]});
                self.elicit(
                    context,
                    form(&argument("message").unwrap_or_default(), schema)?,
                    "User response",
                )
                .await
            }
            "test_elicitation_sep1034_defaults" => {
                let schema = json!({"type": "object", "properties": {
                    "name": {"type": "string", "default": "John Doe"}, "age": {"type": "integer", "default": 30}, "score": {"type": "number", "default": 95.5},
                    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"}, "verified": {"type": "boolean", "default": true}}});
                self.elicit(
                    context,
                    form("All have defaults", schema)?,
                    "Elicitation completed",
                )
                .await
            }
            "test_elicitation_sep1330_enums" => {
                let titled = |word: &str| json!([{"const": "value1", "title": format!("First {word}")}, {"const": "value2", "title": format!("Second {word}")}, {"const": "value3", "title": format!("Third {word}")}]);
                let schema = json!({"type": "object", "properties": {
                    "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
                    "titledSingle": {"type": "string", "oneOf": titled("Option")},
                    "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]},
                    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
                    "titledMulti": {"type": "array", "items": {"anyOf": titled("Choice")}}}});
                self.elicit(context, form("Choose", schema)?, "Elicitation completed")
                    .await
            }
            other => Err(ErrorData::invalid_params(
                format!("there is no tool `{other}`"),
                None,
            )),
        }
    }

    async fn elicit(
        &self,
        context: &RequestContext<RoleServer>,
        params: ElicitRequestParams,
        word: &str,
    ) -> Called {
        match context.peer.create_elicitation(params).await {
            Ok(answer) => {
                let answer = serde_json::to_value(answer).unwrap_or_default();
                text(format!(
                    "{word}: action={}, content={}",
                    answer["action"].as_str().unwrap_or_default(),
                    answer["content"]
                ))
            }
            Err(error) => {
                Ok(CallToolResult::error(vec![ContentBlock::text(error.to_string())]).into())
            }
        }
    }

    /// What asks by its result; an answer that is no object is none.
    fn call_asking(
        &self,
        params: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Called {
        let answer = |name: &str| {
            params
                .input_responses
                .as_ref()?
                .get(name)
                .filter(|answer| answer.is_object())
                .cloned()
        };
        let name_form = || ask_form("What is your name?", "name", "string");
        match params.name.as_ref() {
            "test_streaming_elicitation" => self.ask(json!({"streaming_elicitation": ask_form("A value?", "value", "string")}), None),
            "test_input_required_result_elicitation" => match answer("user_name") {
                Some(answer) => text(format!("Hello, {}!", answer["content"]["name"].as_str().unwrap_or("you"))),
                None => self.ask(json!({"user_name": name_form()}), None),
            },
            "test_input_required_result_sampling" => match answer("capital_question") {
                Some(answer) => text(format!("Sampling response: {}", answer["content"])),
                None => self.ask(json!({"capital_question": ask_model("What is the capital of France?")}), None),
            },
            "test_input_required_result_list_roots" => match answer("client_roots") {
                Some(answer) => text(format!("Client roots: {}", answer["roots"])),
                None => self.ask(json!({"client_roots": ask_roots()}), None),
            },
            "test_input_required_result_request_state" | "test_input_required_result_tampered_state" => match self.state(params)? {
                Some(_) => text("Confirmed: state-ok"),
                None => self.ask(json!({"confirm": ask_form("Please confirm", "ok", "boolean")}), Some(json!("confirm"))),
            },
            "test_input_required_result_multiple_inputs" => {
                let state = self.state(params)?;
                let all = ["user_name", "greeting", "client_roots"].iter().all(|name| answer(name).is_some());
                match all && state.is_some() {
                    true => text("All inputs received"),
                    false => self.ask(json!({"user_name": name_form(), "greeting": ask_model("Generate a greeting"), "client_roots": ask_roots()}), Some(json!("gather"))),
                }
            }
            "test_input_required_result_multi_round" => match self.state(params)?.and_then(|round| round.as_u64()) {
                None => self.ask(json!({"step1": ask_form("Step 1: What is your name?", "name", "string")}), Some(json!(1))),
                Some(1) => self.ask(json!({"step2": ask_form("Step 2: What is your favorite color?", "color", "string")}), Some(json!(2))),
                Some(_) => text("Multi-round flow complete"),
            },
            "test_input_required_result_capabilities" => {
                if params.input_responses.is_some() {
                    return text("done");
                }
                let can = context.meta.client_capabilities().unwrap_or_default();
                let mut asked = serde_json::Map::new();
                if can.elicitation.is_some() {
                    asked.insert("user_name".to_owned(), name_form());
                }
                if can.sampling.is_some() {
                    asked.insert("greeting".to_owned(), ask_model("Generate a greeting"));
                }
                if can.roots.is_some() {
                    asked.insert("client_roots".to_owned(), ask_roots());
                }
                match asked.is_empty() {
                    true => text("The client can do nothing of that"),
                    false => self.ask(Value::Object(asked), None),
                }
            }
            other => Err(ErrorData::invalid_params(format!("there is no tool `{other}`"), None)),
        }
    }

    fn sinks(&self) -> Vec<SubscriptionSink> {
        self.subscriptions
            .lock()
            .map(|all| all.values().cloned().collect())
            .unwrap_or_default()
    }

    fn resource(uri: &str) -> Option<Value> {
        let id = uri
            .strip_prefix("test://template/")
            .and_then(|rest| rest.strip_suffix("/data"));
        Some(match (uri, id) {
            ("test://static-text", _) => {
                json!({"uri": uri, "mimeType": "text/plain", "text": "This is the content of the static text resource."})
            }
            ("test://static-binary", _) => {
                json!({"uri": uri, "mimeType": "image/png", "blob": PNG})
            }
            ("test://watched-resource", _) => {
                json!({"uri": uri, "mimeType": "text/plain", "text": "Watched."})
            }
            (_, Some(id)) => {
                let data =
                    json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
                json!({"uri": uri, "mimeType": "application/json", "text": data.to_string()})
            }
            _ => return None,
        })
    }

    fn prompt(
        &self,
        params: &GetPromptRequestParams,
    ) -> Option<Result<GetPromptResponse, ErrorData>> {
        let argument = |name: &str| {
            params
                .arguments
                .as_ref()
                .and_then(|all| all.get(name))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let said = |content: Value| json!({"role": "user", "content": content});
        let words = |text: String| said(json!({"type": "text", "text": text}));
        let messages = match params.name.as_str() {
            "test_simple_prompt" => {
                json!([words("This is a simple prompt for testing.".to_owned())])
            }
            "test_prompt_with_arguments" => json!([words(format!(
                "Prompt with arguments: arg1='{}', arg2='{}'",
                argument("arg1"),
                argument("arg2")
            ))]),
            "test_prompt_with_embedded_resource" => json!([
                said(
                    json!({"type": "resource", "resource": {"uri": argument("resourceUri"), "mimeType": "text/plain", "text": "Embedded resource content for testing."}})
                ),
                words("Please process the embedded resource above.".to_owned())
            ]),
            "test_prompt_with_image" => json!([
                said(json!({"type": "image", "data": PNG, "mimeType": "image/png"})),
                words("Please analyze the image above.".to_owned())
            ]),
            "test_input_required_result_prompt" => {
                let answer = params
                    .input_responses
                    .as_ref()
                    .and_then(|answers| answers.get("user_context"))
                    .filter(|answer| answer.is_object());
                match answer {
                    Some(answer) => {
                        json!([words(format!("Context: {}", answer["content"]["context"]))])
                    }
                    None => {
                        let asked = of::<InputRequests>(
                            json!({"user_context": ask_form("What context?", "context", "string")}),
                        );
                        return Some(
                            asked.map(|asked| InputRequiredResult::new(Some(asked), None).into()),
                        );
                    }
                }
            }
            _ => return None,
        };
        Some(of(messages).map(|messages| GetPromptResult::new(messages).into()))
    }
}

fn prompts() -> Result<Vec<Prompt>, ErrorData> {
    let argument = |name: &str| json!({"name": name, "description": "For tests", "required": true});
    of(json!([
        {"name": "test_simple_prompt", "description": "Has no arguments"},
        {"name": "test_prompt_with_arguments", "description": "Has two", "arguments": [argument("arg1"), argument("arg2")]},
        {"name": "test_prompt_with_embedded_resource", "description": "Has a resource", "arguments": [argument("resourceUri")]},
        {"name": "test_prompt_with_image", "description": "Has an image"},
        {"name": "test_input_required_result_prompt", "description": "Asks first"},
    ]))
}

impl ServerHandler for Fixture {
    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools().ok()?.into_iter().find(|tool| tool.name == name)
    }

    fn get_info(&self) -> ServerConfig {
        let mut info = self.server.get_info();
        info.capabilities = ServerCapabilities::builder()
            .enable_completions()
            .enable_logging()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .enable_tools()
            .enable_tool_list_changed()
            .build();
        info
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut all) = self.subscriptions.lock() {
            all.insert(number, context.sink().clone());
        }
        context.cancelled().await;
        if let Ok(mut all) = self.subscriptions.lock() {
            all.remove(&number);
        }
        Ok(())
    }

    async fn set_level(
        &self,
        _: SetLevelRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn subscribe(
        &self,
        _: SubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(
        &self,
        _: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn list_tools(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let mut listed = self.server.list_tools(page, context).await?;
        listed.tools.extend(tools()?);
        Ok(listed)
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Called {
        match self.call(&params, &context).await {
            Some(called) => called,
            None => self.server.call_tool(params, context).await,
        }
    }

    async fn list_resources(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let mut listed = self.server.list_resources(page, context).await?;
        listed.resources.extend(of::<Vec<Resource>>(json!([
            {"uri": "test://static-text", "name": "Static text", "description": "Text", "mimeType": "text/plain"},
            {"uri": "test://static-binary", "name": "Static binary", "description": "An image", "mimeType": "image/png"},
            {"uri": "test://watched-resource", "name": "Watched", "description": "Can be subscribed to", "mimeType": "text/plain"},
        ]))?);
        Ok(listed)
    }

    async fn list_resource_templates(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let mut listed = self.server.list_resource_templates(page, context).await?;
        listed.resource_templates.extend(of::<Vec<ResourceTemplate>>(json!([
            {"uriTemplate": "test://template/{id}/data", "name": "Template", "description": "Has an id", "mimeType": "application/json"},
        ]))?);
        Ok(listed)
    }

    async fn read_resource(
        &self,
        params: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        match Self::resource(&params.uri) {
            Some(found) => Ok(ReadResourceResult::new(of(json!([found]))?).into()),
            None => self.server.read_resource(params, context).await,
        }
    }

    async fn list_prompts(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let mut listed = self.server.list_prompts(page, context).await?;
        listed.prompts.extend(prompts()?);
        Ok(listed)
    }

    async fn get_prompt(
        &self,
        params: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        match self.prompt(&params) {
            Some(got) => got,
            None => self.server.get_prompt(params, context).await,
        }
    }

    async fn complete(
        &self,
        params: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        self.server.complete(params, context).await
    }
}
