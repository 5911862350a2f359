//! The protocol: requests in, results out. The only module that knows rmcp's types.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rmcp::ErrorData;
use rmcp::handler::server::ServerHandler;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams,
    CompleteResult, CompletionInfo, ContentBlock, ElicitRequestParams, GetPromptRequestParams,
    GetPromptResponse, GetPromptResult, Implementation, InputRequest, InputRequests,
    InputRequiredResult, JsonObject, ListPromptsResult, ListResourceTemplatesResult,
    ListResourcesResult, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam,
    ProgressToken, PromptMessage, ReadResourceRequestParams, ReadResourceResponse,
    ReadResourceResult, Reference, RequestStateCodec, Resource, ResourceContents, Role,
    SealOptions, ServerCapabilities, ServerConfig, Tool as Told,
};
use rmcp::service::{RequestContext, RoleServer};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use super::call::{
    Answer, Call, Client, Consent, Options, Outcome, Question, Session, Text, plan_id,
};
use super::fault::Fault;
use super::sets::Set;
use super::tools::{self, Tool};
use super::{prompts, resources};
use crate::app::context::Context;
use crate::ui::progress::{Relay, Told as Progress};

/// How many reading calls run at the same time.
const READERS: usize = 4;
/// How long a user may think about a question.
const PATIENCE: Duration = Duration::from_secs(600);
/// The interval between progress notes.
const NOTE_EVERY: Duration = Duration::from_millis(250);
/// Limit of the text of one result, in bytes; a model's client accepts about this much.
const MAX_TEXT: usize = 32 << 10;

/// Answers one client, or several in turn.
#[derive(Clone)]
pub(crate) struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    cx: Context,
    /// The repository that the user named.
    repository: Option<PathBuf>,
    options: Options,
    session: Session,
    /// The tools as advertised to clients.
    told: Vec<Told>,
    codec: RequestStateCodec,
    readers: Semaphore,
    /// Held by a changing call: one at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Server {
    /// # Errors
    /// There are no random numbers, which unforgeable consent needs.
    pub(crate) fn new(
        cx: Context,
        repository: Option<PathBuf>,
        options: Options,
    ) -> Result<Self, String> {
        let offered = |tool: &Tool| is_offered(tool, &options);
        let told = read(Value::Array(tools::told(offered)));
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| error.to_string())?;
        let codec = RequestStateCodec::try_new(key.to_vec()).map_err(|error| error.to_string())?;
        Ok(Self {
            shared: Arc::new(Shared {
                cx,
                repository,
                told,
                codec,
                readers: Semaphore::new(READERS),
                turn: tokio::sync::Mutex::new(()),
                session: Session::default(),
                options,
            }),
        })
    }
}

fn is_offered(tool: &Tool, options: &Options) -> bool {
    let wanted = options.sets.is_empty() || options.sets.contains(&tool.set);
    wanted && !(options.read_only && tool.changes)
}

/// Converts this program's own JSON to a protocol type; a test checks that it fits.
fn read<T: DeserializeOwned + Default>(value: Value) -> T {
    serde_json::from_value(value).unwrap_or_default()
}

/// The parts of a request that a call needs.
struct Request {
    tool: &'static Tool,
    arguments: JsonObject,
    client: Client,
}

impl Shared {
    /// Runs a tool on a thread where it may block. The client gets progress, and may cancel.
    async fn run(
        self: &Arc<Self>,
        request: &Request,
        agreed: Option<Consent>,
        context: &RequestContext<RoleServer>,
    ) -> Result<Outcome, Fault> {
        let changes = request.tool.changes;
        let turn = async {
            match changes {
                true => (Some(self.turn.lock().await), None),
                false => (None, self.readers.acquire().await.ok()),
            }
        };
        // A call that is cancelled while it waits does nothing.
        let _turn = tokio::select! {
            turn = turn => turn,
            () = context.ct.cancelled() => return Err(bdr::Error::Interrupted.into()),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let token = context.meta.get_progress_token();
        let (relay, mut notes) = notes(token.is_some());
        let shared = Arc::clone(self);
        let work = {
            let (tool, arguments, client) = (
                request.tool,
                request.arguments.clone(),
                request.client.clone(),
            );
            let stop = Arc::clone(&stop);
            move || shared.work(tool, arguments, &client, agreed, stop, relay)
        };
        let mut work = tokio::task::spawn_blocking(work);
        let mut cancelled = false;
        let mut notes_open = true;
        loop {
            tokio::select! {
                done = &mut work => {
                    // The panic has printed its message on stderr.
                    return done.unwrap_or_else(|_| Err(Fault::new("FAILED", "internal error in bdr: the call failed", "get_backup_status; and tell the user")));
                }
                () = context.ct.cancelled(), if !cancelled => {
                    cancelled = true;
                    stop.store(true, Ordering::Relaxed);
                }
                note = notes.recv(), if notes_open => match note {
                    Some(note) => tell(context, token.clone(), note).await,
                    None => notes_open = false,
                },
            }
        }
    }

    fn work(
        &self,
        tool: &'static Tool,
        arguments: JsonObject,
        client: &Client,
        agreed: Option<Consent>,
        stop: Arc<AtomicBool>,
        relay: Option<Relay>,
    ) -> Result<Outcome, Fault> {
        let args = tool.read(arguments)?;
        if tool.changes && agreed.is_none() {
            self.session.admit()?;
        }
        let cx = self.cx.afresh(self.repository.as_deref(), stop, relay)?;
        let call = Call {
            cx: &cx,
            session: &self.session,
            client,
            options: &self.options,
            tool: tool.name,
            args,
            agreed,
            began: Instant::now(),
        };
        (tool.run)(&call)
    }

    /// Looks something up on a thread where it may block.
    async fn look<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Context, &Options) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let _reader = self.readers.acquire().await;
        let shared = Arc::clone(self);
        let work = move || {
            let stop = Arc::new(AtomicBool::new(false));
            let cx = shared.cx.afresh(shared.repository.as_deref(), stop, None)?;
            work(&cx, &shared.options)
        };
        let broken = |_| {
            Err(Fault::new(
                "FAILED",
                "internal error in bdr: the call failed",
                "",
            ))
        };
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(broken)
    }

    fn result(&self, tool: &Tool, result: Result<Answer, Fault>) -> CallToolResult {
        let brief = match self.options.text {
            Some(text) => text == Text::Brief,
            // Callers of the older tools parse JSON from the text.
            None => tool.set == Set::Guard,
        };
        let (data, text, failed, links) = match result {
            Ok(answer) => {
                let text = match brief && !answer.brief.is_empty() {
                    true => answer.brief,
                    false => answer.data.to_string(),
                };
                (answer.data, text, answer.failed, answer.links)
            }
            Err(fault) => {
                let data = fault.data();
                let text = if brief {
                    fault.text()
                } else {
                    data.to_string()
                };
                (data, text, true, Vec::new())
            }
        };
        let text = match brief && text.len() > MAX_TEXT {
            true => format!(
                "{}\n(cut; the structured result has all of it)",
                bdr::model::agent::start_of(&text, MAX_TEXT)
            ),
            false => text,
        };
        let mut content = vec![ContentBlock::text(text)];
        content.extend(
            links
                .into_iter()
                .map(|(uri, name)| ContentBlock::resource_link(Resource::new(uri, name))),
        );
        let mut result = match failed {
            true => CallToolResult::error(content),
            false => CallToolResult::success(content),
        };
        result.structured_content = Some(data);
        result
    }

    /// Returns what a sealed consent is bound to: another tool or other arguments are another call.
    fn binding(request: &Request) -> String {
        plan_id([
            request.tool.name.to_owned(),
            Value::Object(request.arguments.clone()).to_string(),
        ])
    }

    /// Asks by a request of its own, as in the protocol before 2026-07-28.
    async fn ask(&self, question: &Question, context: &RequestContext<RoleServer>) -> bool {
        let Ok(params) = serde_json::from_value::<ElicitRequestParams>(form(question)) else {
            return false;
        };
        let asked = context
            .peer
            .create_elicitation_with_timeout(params, Some(PATIENCE));
        let answer = tokio::select! {
            answer = asked => answer,
            () = context.ct.cancelled() => return false,
        };
        answer.is_ok_and(|answer| {
            serde_json::to_value(answer).is_ok_and(|answer| is_consent(&answer))
        })
    }

    /// Asks by an incomplete result; the client calls again with the answer.
    fn ask_later(
        &self,
        request: &Request,
        question: &Question,
    ) -> Result<CallToolResponse, ErrorData> {
        let broken = |error: String| ErrorData::internal_error(error, None);
        let binding = Self::binding(request);
        let options = SealOptions::new()
            .associated_data(binding.as_bytes())
            .ttl(PATIENCE);
        let sealed = self
            .codec
            .seal_json_with(&question.consent, &options)
            .map_err(|error| broken(error.to_string()))?;
        let mut asked = form(question);
        asked["mode"] = "form".into();
        let asked = json!({"method": "elicitation/create", "params": asked});
        let asked: InputRequest =
            serde_json::from_value(asked).map_err(|error| broken(error.to_string()))?;
        let mut requests = InputRequests::new();
        requests.insert(CONFIRM.to_owned(), asked);
        Ok(InputRequiredResult::new(Some(requests), Some(sealed)).into())
    }
}

/// The name of the question.
const CONFIRM: &str = "confirm";

fn form(question: &Question) -> Value {
    json!({
        "mode": "form",
        "message": question.message,
        "requestedSchema": {"type": "object", "properties": {"proceed": {"type": "boolean", "title": "Proceed", "description": "Do it now"}}, "required": ["proceed"]},
    })
}

fn is_consent(answer: &Value) -> bool {
    answer["action"] == "accept" && answer["content"]["proceed"] == true
}

fn declined() -> Fault {
    Fault::new(
        "CONFIRMATION_DECLINED",
        "the user did not agree; nothing was changed",
        "ask the user what to do instead",
    )
}

/// Relays progress, if anybody wants it: at most a few notes a second.
fn notes(wanted: bool) -> (Option<Relay>, mpsc::UnboundedReceiver<Progress>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    if !wanted {
        return (None, receiver);
    }
    let last = std::sync::Mutex::new(None::<Instant>);
    let relay: Relay = Arc::new(move |told| {
        if let Ok(mut last) = last.lock()
            && last.is_none_or(|last| last.elapsed() >= NOTE_EVERY)
        {
            *last = Some(Instant::now());
            let _ = sender.send(told);
        }
    });
    (Some(relay), receiver)
}

async fn tell(context: &RequestContext<RoleServer>, token: Option<ProgressToken>, note: Progress) {
    let Some(token) = token else { return };
    // Each phase counts from zero, but reported progress must grow.
    let phases = ["Scanning", "Storing", "Verifying", "Restoring"];
    let phase = phases
        .iter()
        .position(|phase| *phase == note.phase)
        .unwrap_or(0);
    let part = match note.total {
        0 => 0.0,
        total => (note.done as f64 / total as f64).min(1.0),
    };
    let param = ProgressNotificationParam::new(token, phase as f64 + part)
        .with_total(phases.len() as f64)
        .with_message(format!("{} {}", note.phase, crate::ui::count(note.done)));
    // Do not wait for a client that does not listen.
    let _ = context.peer.notify_progress(param).await;
}

fn client_of(context: &RequestContext<RoleServer>) -> (Client, bool) {
    let info = context.client_info();
    let name = info.map_or_else(
        || "unknown client".to_owned(),
        |info| format!("{} {}", info.name, info.version),
    );
    let modern = context
        .protocol_version()
        .is_some_and(|version| !version.has_initialize());
    let elicitation = context
        .client_capabilities()
        .and_then(|capabilities| capabilities.elicitation);
    // A client that names no mode means forms: they were the only one.
    let can_ask = elicitation.is_some_and(|modes| modes.form.is_some() || modes.url.is_none());
    let client = Client {
        name: bdr::base::path::show(bdr::model::agent::start_of(&name, 80).as_ref()),
        call: context.id.to_string(),
        can_ask,
    };
    (client, modern)
}

fn not_found(uri: &str) -> ErrorData {
    ErrorData::resource_not_found(
        format!(
            "there is no resource {}",
            bdr::base::path::show(uri.as_ref())
        ),
        Some(json!({"uri": uri})),
    )
}

fn of_fault(fault: Fault) -> ErrorData {
    ErrorData::invalid_params(fault.text(), Some(fault.data()))
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_prompts()
            .enable_completions()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(
                Implementation::new("bdr", env!("CARGO_PKG_VERSION"))
                    .with_title("bdr: backup, guard and undo"),
            )
            .with_instructions(prompts::INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let told = self.shared.told.clone();
        // The same for every client for as long as the server runs.
        Ok(ListToolsResult::with_all_items(told)
            .with_ttl_ms(resources::FOREVER_MS)
            .with_cache_scope(CacheScope::Private))
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let shared = &self.shared;
        let named = tools::ALL
            .iter()
            .find(|tool| tool.name == params.name && is_offered(tool, &shared.options));
        let Some(tool) = named else {
            let name = bdr::base::path::show(params.name.as_ref().as_ref());
            return Err(ErrorData::invalid_params(
                format!("there is no tool `{name}`"),
                None,
            ));
        };
        let (client, modern) = client_of(&context);
        let request = Request {
            tool,
            arguments: params.arguments.unwrap_or_default(),
            client,
        };
        let mut agreed = None;
        if let Some(sealed) = params.request_state {
            let binding = Shared::binding(&request);
            let consent = shared
                .codec
                .open_json_with::<Consent>(&sealed, binding.as_bytes());
            let consent = consent.map_err(|error| {
                ErrorData::invalid_params(format!("requestState is refused: {error}"), None)
            })?;
            let answer = params
                .input_responses
                .as_ref()
                .and_then(|responses| responses.get(CONFIRM));
            match answer {
                Some(answer) if is_consent(answer) => agreed = Some(consent),
                Some(_) => return Ok(shared.result(tool, Err(declined())).into()),
                // Asked again below.
                None => {}
            }
        }
        match shared.run(&request, agreed, &context).await {
            Ok(Outcome::Done(answer)) => Ok(shared.result(tool, Ok(answer)).into()),
            Err(fault) => Ok(shared.result(tool, Err(fault)).into()),
            Ok(Outcome::Ask(question)) if modern => shared.ask_later(&request, &question),
            Ok(Outcome::Ask(question)) => {
                if !shared.ask(&question, &context).await {
                    return Ok(shared.result(tool, Err(declined())).into());
                }
                let done = match shared.run(&request, Some(question.consent), &context).await {
                    Ok(Outcome::Done(answer)) => Ok(answer),
                    Ok(Outcome::Ask(_)) => Err(declined()),
                    Err(fault) => Err(fault),
                };
                Ok(shared.result(tool, done).into())
            }
        }
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let told: Vec<Resource> = read(resources::told());
        Ok(ListResourcesResult::with_all_items(told)
            .with_ttl_ms(resources::FOREVER_MS)
            .with_cache_scope(CacheScope::Private))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let told: Vec<rmcp::model::ResourceTemplate> = read(resources::templates());
        Ok(ListResourceTemplatesResult::with_all_items(told)
            .with_ttl_ms(resources::FOREVER_MS)
            .with_cache_scope(CacheScope::Private))
    }

    async fn read_resource(
        &self,
        params: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = params.uri.clone();
        let looked = self
            .shared
            .look(move |cx, options| resources::read(cx, options, &uri))
            .await;
        let Some(found) = looked.map_err(of_fault)? else {
            return Err(not_found(&params.uri));
        };
        let contents = match (found.text, found.blob) {
            (Some(text), _) => ResourceContents::text(text, &params.uri),
            (None, blob) => ResourceContents::blob(blob.unwrap_or_default(), &params.uri),
        };
        Ok(
            ReadResourceResult::new(vec![contents.with_mime_type(found.mime)])
                .with_ttl_ms(found.ttl_ms)
                .with_cache_scope(CacheScope::Private)
                .into(),
        )
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let told: Vec<rmcp::model::Prompt> = read(prompts::told());
        Ok(ListPromptsResult::with_all_items(told)
            .with_ttl_ms(resources::FOREVER_MS)
            .with_cache_scope(CacheScope::Private))
    }

    async fn get_prompt(
        &self,
        params: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let arguments = params.arguments.unwrap_or_default();
        let argument = |name: &str| {
            let text = arguments.get(name)?.as_str()?.trim();
            (!text.is_empty()).then(|| bdr::model::agent::start_of(text, 1000).to_owned())
        };
        let text = match prompts::get(&params.name, argument) {
            Some(Ok(text)) => text,
            Some(Err(missing)) => {
                return Err(ErrorData::invalid_params(
                    format!("the argument `{missing}` is missing"),
                    None,
                ));
            }
            None => {
                let name = bdr::base::path::show(params.name.as_ref());
                return Err(ErrorData::invalid_params(
                    format!("there is no prompt `{name}`"),
                    None,
                ));
            }
        };
        Ok(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, text)]).into())
    }

    async fn complete(
        &self,
        params: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let (name, typed) = (params.argument.name.clone(), params.argument.value.clone());
        let values = match &params.r#ref {
            Reference::Prompt(_) => prompts::complete(&name, &typed),
            _ => {
                let id = params
                    .context
                    .as_ref()
                    .and_then(|context| context.get_argument("id"))
                    .cloned();
                // Without a repository there is nothing to complete.
                let looked = self.shared.look(move |cx, options| {
                    resources::complete(cx, options, &name, &typed, id.as_deref())
                });
                looked.await.unwrap_or_default()
            }
        };
        let more = values.len() >= CompletionInfo::MAX_VALUES;
        let number = u32::try_from(values.len()).ok().filter(|_| !more);
        let info = CompletionInfo::with_pagination(
            values
                .into_iter()
                .take(CompletionInfo::MAX_VALUES)
                .collect(),
            number,
            more,
        );
        info.map(CompleteResult::new)
            .map_err(|error| ErrorData::internal_error(error, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_holds_fits_the_protocol() {
        let tools: Vec<Told> = read(Value::Array(tools::told(|_| true)));
        assert_eq!(tools.len(), 12);
        let listed: Vec<Resource> = read(resources::told());
        let templates: Vec<rmcp::model::ResourceTemplate> = read(resources::templates());
        let told: Vec<rmcp::model::Prompt> = read(prompts::told());
        assert_eq!((listed.len(), templates.len(), told.len()), (3, 3, 3));
        let question = Question {
            message: "Sure?".to_owned(),
            consent: Consent::default(),
        };
        assert!(serde_json::from_value::<ElicitRequestParams>(form(&question)).is_ok());
    }

    #[test]
    fn only_an_explicit_yes_is_consent() {
        assert!(is_consent(
            &json!({"action": "accept", "content": {"proceed": true}})
        ));
        for answer in [
            json!({"action": "accept"}),
            json!({"action": "accept", "content": {"proceed": false}}),
            json!({"action": "decline", "content": {"proceed": true}}),
            json!({"action": "cancel"}),
            json!(null),
        ] {
            assert!(!is_consent(&answer), "{answer}");
        }
    }
}
