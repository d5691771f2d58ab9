#include "serve/openapi.h"

#include <algorithm>
#include <array>
#include <map>

#include "serve/faults.h"

namespace lode::serve {
namespace {

using enum FieldType;

constexpr double kTokensMax = 2147483648.0;

// What Chat Completions and Completions share.
constexpr auto kRules = std::to_array<FieldDoc>({
    {"model", kString, "a name of /v1/models; absent: the only one there is"},
    {"temperature", kNumber, "0 takes the likeliest token", 0.0, 100.0},
    {"top_p", kNumber, "keeps the likeliest tokens up to this probability", 0.0, 1.0},
    {"top_k", kInteger, "keeps so many of the likeliest tokens; 0 or -1: all", -1.0, kTokensMax},
    {"min_p", kNumber, "drops what is less likely than this share of the likeliest", 0.0, 1.0},
    {"typical_p", kNumber, "keeps tokens that surprise about as much as expected", 0.0, 1.0},
    {"repetition_penalty", kNumber, "above 1: less of what was there", 0.01, 100.0},
    {"frequency_penalty", kNumber, "for each time that a token was there", -100.0, 100.0},
    {"presence_penalty", kNumber, "once for each token that was there", -100.0, 100.0},
    {"logit_bias", kObject, "ids of tokens and what is added to their logits, -100 to 100"},
    {"seed", kInteger, "the same seed gives the same text"},
    {"n", kInteger, "answers to one prompt", 1.0, 128.0},
    {"stop", kStrings, "texts that end the answer and are left out of it"},
    {"include_stop_str_in_output", kBool, "leaves them in"},
    {"stop_token_ids", kArray, "ids of tokens that end the answer"},
    {"min_tokens", kInteger, "the answer does not end before", 0.0, kTokensMax},
    {"ignore_eos", kBool, "goes on behind the model's own end"},
    {"skip_special_tokens", kBool, "control tokens leave no text"},
    {"stream", kBool, "the answer comes as server-sent events"},
    {"stream_options", kObject, "include_usage, continuous_usage_stats"},
    {"return_progress", kBool, "chunks that tell how much of the prompt was read"},
    {"cache_salt", kString, "only requests of the same salt share what was computed"},
    {"priority", kInteger, "lower goes first", -1000.0, 1000.0},
});

// Of requests that may go on from a context.
constexpr auto kContextUse = std::to_array<FieldDoc>({
    {"context", kString, "goes on from that context; messages or prompt are what is new"},
    {"lode", kObject, "context, continue (append or rerender), fork_if_busy, explain"},
});

constexpr auto kChat = std::to_array<FieldDoc>({
    {"messages", kArray, "the dialogue; content is text or parts of type text", 0.0, 0.0, true},
    {"max_completion_tokens", kInteger, "thinking counts, too", 1.0, kTokensMax},
    {"max_tokens", kInteger, "the older name of max_completion_tokens", 1.0, kTokensMax},
    {"tools", kArray, "functions that the model may call"},
    {"tool_choice", kAny, "none, auto, required, or one function"},
    {"parallel_tool_calls", kBool, "more than one call in an answer"},
    {"reasoning_effort", kString, "none, minimal, low, medium, high, xhigh or max"},
    {"thinking_token_budget", kInteger, "thinking is ended behind so many tokens", 0.0, kTokensMax},
    {"include_reasoning", kBool, "false: the trace is counted but not sent"},
    {"logprobs", kBool, "log-probabilities of the chosen tokens"},
    {"top_logprobs", kInteger, "and of so many likeliest ones", 0.0, 20.0},
    {"chat_template_kwargs", kObject, "variables of the model's template"},
    {"documents", kArray, "for templates that take them"},
    {"add_generation_prompt", kBool, "false: the dialogue is not opened for an answer"},
});

// What the text of an answer must look like; one of them.
constexpr auto kForms = std::to_array<FieldDoc>({
    {"response_format", kObject, "text, json_object, json_schema or structural_tag"},
    {"structured_outputs", kObject, "json, regex, choice, grammar, json_object, structural_tag"},
    {"guided_json", kAny, "a JSON schema, or its text"},
    {"guided_regex", kString, "a regular expression for the whole text"},
    {"guided_choice", kArray, "the texts that there may be"},
    {"guided_grammar", kString, "a grammar in GBNF"},
    {"guided_whitespace_pattern", kAny, "refused: white space of JSON is ours to choose"},
    {"json_schema", kAny, "the same as guided_json"},
    {"grammar", kString, "the same as guided_grammar"},
});

constexpr auto kCompletion = std::to_array<FieldDoc>({
    {"prompt", kAny, "text, ids of tokens, or a list of either", 0.0, 0.0, true},
    {"max_tokens", kInteger, "16 unless told", 0.0, kTokensMax},
    {"logprobs", kInteger, "log-probabilities of so many likeliest tokens", 0.0, 20.0},
    {"echo", kBool, "the prompt comes back in front of the answer"},
    {"best_of", kInteger, "the same as n", 1.0, 128.0},
    {"suffix", kAny, "must be empty: nothing is filled in between"},
});

constexpr auto kMessage = std::to_array<FieldDoc>({
    {"model", kString, "a name of /v1/models"},
    {"messages", kArray, "the dialogue", 0.0, 0.0, true},
    {"max_tokens", kInteger, "thinking counts, too", 1.0, kTokensMax, true},
    {"system", kAny, "text, or blocks of text"},
    {"tools", kArray, "tools that the model may use"},
    {"tool_choice", kObject, "auto, any, tool or none"},
    {"thinking", kObject, "enabled with budget_tokens, adaptive or disabled"},
    {"output_config", kObject, "effort of thinking, format of the answer"},
    {"output_format", kObject, "the older place of output_config.format"},
    {"temperature", kNumber, "0 takes the likeliest token", 0.0, 2.0},
    {"top_p", kNumber, "keeps the likeliest tokens up to this probability", 0.0, 1.0},
    {"top_k", kInteger, "keeps so many of the likeliest tokens; 0: all"},
    {"stop_sequences", kStrings, "texts that end the answer and are left out of it"},
    {"stream", kBool, "the answer comes as server-sent events"},
    {"chat_template_kwargs", kObject, "variables of the model's template"},
});

constexpr auto kResponse = std::to_array<FieldDoc>({
    {"input", kAny, "text, or items: messages, calls, their outputs, reasoning", 0.0, 0.0, true},
    {"instructions", kString, "a system message in front of the input"},
    {"previous_response_id", kString, "a response that was kept: its dialogue goes on"},
    {"store", kBool, "true unless told: the response is kept for a while, in memory"},
    {"max_output_tokens", kInteger, "thinking counts, too", 1.0, kTokensMax},
    {"tools", kArray, "functions, or custom tools whose input is text"},
    {"tool_choice", kAny, "none, auto, required, one function, or allowed_tools"},
    {"parallel_tool_calls", kBool, "more than one call in an answer"},
    {"max_tool_calls", kInteger, "of tools that run here: there are none", 1.0, kTokensMax},
    {"text", kObject, "format: text, json_object or json_schema"},
    {"reasoning", kObject, "effort, summary (which is the trace itself)"},
    {"thinking_token_budget", kInteger, "thinking is ended behind so many tokens", 0.0, kTokensMax},
    {"include", kArray, "reasoning.encrypted_content, message.output_text.logprobs"},
    {"top_logprobs", kInteger, "log-probabilities, of so many likeliest tokens, too", 0.0, 20.0},
    {"truncation", kString, "auto: old turns are left out where the dialogue is too long"},
    {"metadata", kObject, "comes back"},
    {"user", kString, "comes back"},
    {"safety_identifier", kString, "comes back"},
    {"prompt_cache_key", kString, "comes back"},
    {"prompt_cache_retention", kString, "comes back"},
    {"service_tier", kString, "there is one"},
    {"background", kBool, "must be false"},
    {"conversation", kAny, "refused: conversations are not kept"},
    {"prompt", kAny, "refused: prompts are not kept"},
    {"chat_template_kwargs", kObject, "variables of the model's template"},
});

constexpr auto kEmbedding = std::to_array<FieldDoc>({
    {"model", kString, "a name of /v1/models"},
    {"input", kAny, "text, ids of tokens, or a list of either", 0.0, 0.0, true},
    {"encoding_format", kString, "float or base64"},
    {"dimensions", kAny, "refused: the model has the width that it has"},
});

constexpr auto kTokenize = std::to_array<FieldDoc>({
    {"prompt", kString, "text; or content, or messages"},
    {"content", kString, "text, by its other name"},
    {"messages", kArray, "a dialogue, through the template"},
    {"add_special_tokens", kBool, "the tokens that begin a text"},
    {"add_special", kBool, "the same"},
    {"return_token_strs", kBool, "the tokens as text, too"},
    {"with_pieces", kBool, "each token with its text"},
});

constexpr auto kDetokenize = std::to_array<FieldDoc>({
    {"tokens", kArray, "ids of tokens", 0.0, 0.0, true},
});

constexpr FieldDoc kPlace = {"at", kObject, "one of token, message and mark; absent: its end"};

constexpr auto kContext = std::to_array<FieldDoc>({
    {"model", kString, "a name of /v1/models"},
    {"messages", kArray, "the dialogue that it begins with, as in Chat Completions; or prompt"},
    {"prompt", kAny, "plain text or ids of tokens; or from"},
    {"from", kString, "a context that it is a fork of"},
    kPlace,
    {"tools", kArray, "functions, with messages"},
    {"chat_template_kwargs", kObject, "variables of the model's template"},
    {"name", kString, "a label, and what it is saved as"},
    {"pin", kString, "none, or memory: its newest state stays"},
    {"publish", kBool, "every tenant's prompts may begin with it; where the key may"},
    {"ttl_s", kNumber, "not used for so long it goes; 0: never", 0.0, 1e9},
    {"cache_salt", kString, "only requests of the same salt share what was computed"},
    {"priority", kInteger, "lower goes first", -1000.0, 1000.0},
    {"stream", kBool, "progress comes as server-sent events"},
});

constexpr auto kContextChange = std::to_array<FieldDoc>({
    {"name", kString, "a label, and what it is saved as"},
    {"mark", kString, "a name for its end"},
    {"pin", kString, "none or memory"},
    {"ttl_s", kNumber, "not used for so long it goes; 0: never", 0.0, 1e9},
});

constexpr auto kContextFork = std::to_array<FieldDoc>({
    {"n", kInteger, "so many; 1 unless told", 1.0, 1024.0},
    kPlace,
});

constexpr auto kContextTruncate = std::to_array<FieldDoc>({
    {"at", kObject, "one of token, message and mark", 0.0, 0.0, true},
});

constexpr auto kContextSave = std::to_array<FieldDoc>({
    {"name", kString, "a name, no path; absent: the context's own"},
    {"delta", kBool, "false: a file that leans on no other"},
    {"zstd", kInteger, "how hard it is compressed; 0: not, which restores fastest", 0.0, 19.0},
});

constexpr auto kContextRestore = std::to_array<FieldDoc>({
    {"name", kString, "a saved context", 0.0, 0.0, true},
    {"on_mismatch", kString, "of another model: fail, or recompute its tokens"},
    {"verify", kBool, "every byte is read first"},
    {"cache_salt", kString, "only requests of the same salt share what was computed"},
    {"priority", kInteger, "lower goes first", -1000.0, 1000.0},
});

// What a path is for. A route that stands here under no name gets no summary, which a test sees.
struct Operation {
  const char* path;
  const char* tag;
  const char* summary;
  const char* schema = "";  // of the request
  const char* returns = "application/json";
  bool streams = false;
};

constexpr auto kOperations = std::to_array<Operation>({
    {"/", "page", "the page", "", "text/html"},
    {"/ui/", "page", "files of the page", "", "text/javascript"},
    {"/lode/status", "server", "figures of the server, as the page shows them"},
    {"/openapi.json", "server", "this document"},
    {"/health", "server", "200: ready; 503: draining"},
    {"/ready", "server", "the same as /health"},
    {"/live", "server", "200 as long as the server runs"},
    {"/version", "server", "the program's version"},
    {"/metrics", "server", "counters and histograms for Prometheus", "", "text/plain"},
    {"/v1/models", "models", "the names that the model answers to"},
    {"/models", "models", "the same as /v1/models"},
    {"/v1/models/", "models", "one of them"},
    {"/models/", "models", "one of them"},
    {"/tokenizer_info", "tokens", "the tokenizer's special tokens and the chat template"},
    {"/v1/chat/completions", "openai", "Chat Completions", "chat", "application/json", true},
    {"/chat/completions", "openai", "Chat Completions", "chat", "application/json", true},
    {"/v1/completions", "openai", "Completions", "completion", "application/json", true},
    {"/completions", "openai", "Completions", "completion", "application/json", true},
    {"/v1/responses", "openai", "Responses", "response", "application/json", true},
    {"/responses", "openai", "Responses", "response", "application/json", true},
    {"/v1/responses/", "openai", "a kept response; below it, /input_items"},
    {"/responses/", "openai", "a kept response; below it, /input_items"},
    {"/v1/responses/input_tokens", "openai", "tokens of a request for Responses", "response"},
    {"/responses/input_tokens", "openai", "tokens of a request for Responses", "response"},
    {"/v1/embeddings", "openai", "Embeddings", "embedding"},
    {"/embeddings", "openai", "Embeddings", "embedding"},
    {"/v1/messages", "anthropic", "Messages", "message", "application/json", true},
    {"/v1/messages/count_tokens", "anthropic", "tokens of a request for Messages", "message"},
    {"/tokenize", "tokens", "text to ids", "tokenize"},
    {"/detokenize", "tokens", "ids to text", "detokenize"},
    {"/apply-template", "tokens", "the prompt that a dialogue becomes", "chat"},
    {"/v1/contexts/restore", "contexts", "a saved context, into memory", "context_restore"},
    {"/v1/contexts/explain", "contexts", "what a request would reuse, and why no more", "chat"},
});

// Of routes that take several methods, or have a name in the middle.
struct MethodRow {
  const char* path;
  const char* method;
  Operation operation;
};

constexpr auto kMethods = std::to_array<MethodRow>({
    {"/v1/contexts", "get", {"", "contexts", "your contexts, and names of saved ones"}},
    {"/v1/contexts",
     "post",
     {"", "contexts", "computes a beginning and keeps it", "context", "application/json", true}},
    {"/v1/contexts/{name}", "get", {"", "contexts", "one of them, and what it takes"}},
    {"/v1/contexts/{name}", "patch", {"", "contexts", "name, mark, pin, ttl", "context_change"}},
    {"/v1/contexts/{name}", "delete", {"", "contexts", "forgets it; a saved one stays"}},
    {"/v1/contexts/{name}/explain", "get", {"", "contexts", "its path through what is known"}},
    {"/v1/contexts/{name}/fork", "post", {"", "contexts", "some that begin so", "context_fork"}},
    {"/v1/contexts/{name}/truncate",
     "post",
     {"", "contexts", "drops its tail", "context_truncate"}},
    {"/v1/contexts/{name}/save", "post", {"", "contexts", "writes it to a file", "context_save"}},
});

Json TypeOf(const FieldDoc& field) {
  switch (field.type) {
    case kString:
      return {{"type", "string"}};
    case kBool:
      return {{"type", "boolean"}};
    case kInteger:
      return {{"type", "integer"}};
    case kNumber:
      return {{"type", "number"}};
    case kObject:
      return {{"type", "object"}};
    case kArray:
      return {{"type", "array"}};
    case kStrings:
      return {
          {"oneOf", {{{"type", "string"}}, {{"type", "array"}, {"items", {{"type", "string"}}}}}}};
    case kAny:
      return Json::object();
  }
  return Json::object();
}

Json SchemaOf(const std::string& name, const FieldLimits& limits) {
  Json properties = Json::object();
  Json required = Json::array();
  for (const auto table : FieldsOf(name)) {
    for (const FieldDoc& field : table) {
      Json own = TypeOf(field);
      own["description"] = field.what;
      if (field.least < field.most) {
        own["minimum"] = field.least;
        own["maximum"] = std::string(field.name) == "n" ? limits.choices_max : field.most;
      }
      properties[field.name] = std::move(own);
      if (field.required) required.push_back(field.name);
    }
  }
  Json schema = {{"type", "object"}, {"properties", std::move(properties)}};
  if (!required.empty()) schema["required"] = std::move(required);
  return schema;
}

// One response for each status, with the codes that come with it.
Json ErrorResponses() {
  std::map<int, Json> codes;
  for (const FaultInfo& fault : AllFaults()) codes[fault.status].push_back(fault.code);
  Json responses = Json::object();
  for (auto& [status, list] : codes) {
    std::string text = "error.code is one of:";
    for (const Json& code : list) text += " " + code.get<std::string>();
    responses[std::to_string(status)] = {
        {"description", std::move(text)},
        {"content",
         {{"application/json", {{"schema", {{"$ref", "#/components/schemas/error"}}}}}}}};
  }
  return responses;
}

Json OperationJson(const ApiRoute& route, const Operation& operation, bool post) {
  Json ok = {{"description", operation.summary}};
  ok["content"][operation.returns] = Json::object();
  if (operation.streams) ok["content"]["text/event-stream"] = Json::object();
  Json responses = {{"200", ok}};
  if (std::string_view(operation.tag) == "contexts") responses["201"] = ok;
  for (const FaultInfo& fault : AllFaults()) {
    const bool any = fault.fault == Fault::kForbidden || fault.fault == Fault::kWrongMethod;
    const bool keyed = fault.fault == Fault::kNoKey && !route.open;
    if (!any && !keyed && !post) continue;
    const std::string status = std::to_string(fault.status);
    responses[status] = {{"$ref", "#/components/responses/" + status}};
  }
  Json made = {{"summary", operation.summary}, {"tags", {operation.tag}}};
  if (route.path.ends_with('/') && route.path != "/") {
    made["parameters"] = {
        {{"name", "name"}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}}};
    responses["404"] = {{"$ref", "#/components/responses/404"}};
  }
  if (route.path == "/health" || route.path == "/ready") {
    responses["503"] = {{"description", "it drains"}};
  }
  made["responses"] = std::move(responses);
  if (!route.open) made["security"] = {{{"bearer", Json::array()}}, {{"x-api-key", Json::array()}}};
  if (*operation.schema != '\0') {
    const std::string schema = operation.schema;
    Json content = Json::object();
    content["schema"] = {{"$ref", "#/components/schemas/" + schema}};
    made["requestBody"] = {{"required", true}, {"content", {{"application/json", content}}}};
  }
  return made;
}

// `path`: of the route; rows below it are its own, too, where it is one of names.
void AddMethods(const ApiRoute& route, const std::string& path, const FieldLimits& limits,
                Json* paths, Json* schemas) {
  for (const MethodRow& row : kMethods) {
    const std::string own = row.path;
    const bool below = route.path.ends_with('/') && own.starts_with(path);
    if (own != path && !below) continue;
    const bool asks = std::string_view(row.method) != "get";
    (*paths)[own][row.method] = OperationJson(route, row.operation, true);
    const std::string schema = row.operation.schema;
    if (asks && !schema.empty()) (*schemas)[schema] = SchemaOf(schema, limits);
  }
}

}  // namespace

std::vector<std::span<const FieldDoc>> FieldsOf(const std::string& schema) {
  if (schema == "chat") return {kChat, kForms, kRules, kContextUse};
  if (schema == "completion") return {kCompletion, kForms, kRules, kContextUse};
  if (schema == "message") return {kMessage};
  if (schema == "response") return {kResponse, kRules};
  if (schema == "embedding") return {kEmbedding};
  if (schema == "tokenize") return {kTokenize};
  if (schema == "detokenize") return {kDetokenize};
  if (schema == "context") return {kContext};
  if (schema == "context_change") return {kContextChange};
  if (schema == "context_fork") return {kContextFork};
  if (schema == "context_truncate") return {kContextTruncate};
  if (schema == "context_save") return {kContextSave};
  if (schema == "context_restore") return {kContextRestore};
  return {};
}

Json OpenApiDocument(const std::vector<ApiRoute>& routes, const FieldLimits& limits,
                     const std::string& version) {
  Json paths = Json::object();
  Json schemas = Json::object();
  for (const ApiRoute& route : routes) {
    const auto* operation =
        std::find_if(kOperations.begin(), kOperations.end(),
                     [&](const Operation& row) { return route.path == row.path; });
    const Operation plain =
        operation == kOperations.end() ? Operation{"", "other", ""} : *operation;
    const bool below = route.path.ends_with('/') && route.path != "/";
    const std::string path = route.path + (below ? "{name}" : "");
    if (!route.methods.empty()) {
      AddMethods(route, path, limits, &paths, &schemas);
      continue;
    }
    paths[path][route.post ? "post" : "get"] = OperationJson(route, plain, route.post);
    if (route.erase) paths[path]["delete"] = OperationJson(route, plain, route.post);
    if (route.post) schemas[plain.schema] = SchemaOf(plain.schema, limits);
  }
  schemas["error"] = {{"type", "object"},
                      {"required", {"error"}},
                      {"properties",
                       {{"error",
                         {{"type", "object"},
                          {"required", {"message", "type"}},
                          {"properties",
                           {{"message", {{"type", "string"}}},
                            {"type", {{"type", "string"}}},
                            {"param", {{"type", {"string", "null"}}}},
                            {"code", {{"type", {"string", "null"}}}}}}}}}}};
  return {{"openapi", "3.1.0"},
          {"info",
           {{"title", "Lode"},
            {"version", version},
            {"description", "A model behind OpenAI's and Anthropic's APIs."}}},
          {"paths", std::move(paths)},
          {"components",
           {{"schemas", std::move(schemas)},
            {"responses", ErrorResponses()},
            {"securitySchemes",
             {{"bearer", {{"type", "http"}, {"scheme", "bearer"}}},
              {"x-api-key", {{"type", "apiKey"}, {"in", "header"}, {"name", "x-api-key"}}}}}}}};
}

}  // namespace lode::serve
