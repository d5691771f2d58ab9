#include "chat/script_backend.h"

#include <algorithm>
#include <utility>

#include "base/json.h"
#include "base/text.h"

namespace lode::chat {
namespace {

constexpr size_t kPromptsKept = 16;

Result<std::vector<int32_t>> ReadTokens(const Json& line, const text::Tokenizer& tokenizer) {
  std::vector<int32_t> tokens;
  const Json* ids = FindKey(line, "tokens");
  const Json* pieces = FindKey(line, "pieces");
  if (ids != nullptr && ids->is_array()) {
    for (const Json& id : *ids) {
      if (!id.is_number_integer() || !tokenizer.Has(id.get<int64_t>())) {
        return Error(Code::kBadInput, "'tokens' names a token that is not there: " + DumpJson(id));
      }
      tokens.push_back(id.get<int32_t>());
    }
    return tokens;
  }
  Json texts = Json::array();
  if (pieces != nullptr && pieces->is_array()) texts = *pieces;
  if (const Json* text = FindKey(line, "text"); text != nullptr) texts.push_back(*text);
  if (texts.empty() && FindKey(line, "fail") == nullptr) {
    return Error(Code::kBadInput, "it has neither 'tokens' nor 'text' nor 'pieces'");
  }
  for (const Json& text : texts) {
    if (!text.is_string()) return Error(Code::kBadInput, "a text to play is not a string");
    LODE_ASSIGN(const auto encoded, tokenizer.Encode(text.get_ref<const std::string&>()));
    tokens.insert(tokens.end(), encoded.begin(), encoded.end());
  }
  return tokens;
}

Result<ScriptLine> ReadLine(const Json& json, const text::Tokenizer& tokenizer) {
  ScriptLine line;
  const Json* match = FindKey(json, "match");
  if (match != nullptr && match->is_string()) line.match = match->get<std::string>();
  LODE_ASSIGN(line.tokens, ReadTokens(json, tokenizer));
  line.times = GetInt(json, "times");
  line.start_ms = GetInt(json, "start_ms");
  line.delay_ms = GetInt(json, "delay_ms");
  line.fail = GetString(json, "fail");
  return line;
}

}  // namespace

Result<Script> Script::Parse(std::string_view text, const text::Tokenizer& tokenizer) {
  Script script;
  int64_t number = 0;
  for (const std::string& row : Split(text, '\n')) {
    ++number;
    if (row.find_first_not_of(" \t\r") == std::string::npos) continue;
    const auto read = [&]() -> Result<void> {
      LODE_ASSIGN(const Json json, ParseJson(row));
      if (!json.is_object()) return Error(Code::kBadInput, "it is not a JSON object");
      if (json.contains("running_max") || json.contains("queue_max") || json.contains("context")) {
        script.running_max = GetInt(json, "running_max", script.running_max);
        script.queue_max = GetInt(json, "queue_max", script.queue_max);
        script.context = GetInt(json, "context", script.context);
        return {};
      }
      LODE_ASSIGN(ScriptLine line, ReadLine(json, tokenizer));
      script.lines.push_back(std::move(line));
      return {};
    };
    if (auto done = read(); !done.ok()) {
      return std::move(done.error().AddContext("line " + std::to_string(number)));
    }
  }
  return script;
}

ScriptBackend::ScriptBackend(Script script, int64_t vocabulary)
    : script_(std::move(script)), vocabulary_(vocabulary) {
  thread_ = std::thread([this] { Run(); });
}

ScriptBackend::~ScriptBackend() { Stop(); }

Result<Ticket> ScriptBackend::Submit(TokenRequest request, std::shared_ptr<TokenSink> sink) {
  const std::lock_guard lock(mutex_);
  if (stopping_) return Error(Code::kCancelled, "the server is stopping");
  const auto fail = [&](Cause cause, const std::string& sentence) {
    TokenEvent event;
    event.kind = TokenEvent::Kind::kFailed;
    event.failure =
        std::make_shared<const Failure>(Failure{cause, Error(Code::kNoSpace, sentence), 1.0});
    sink->Push(std::move(event));
    return next_ticket_++;
  };
  if (static_cast<int64_t>(request.request.prompt.size()) > script_.context) {
    return fail(Cause::kTooLong, "the prompt does not fit the context");
  }
  const auto waiting = static_cast<int64_t>(plays_.size()) - running_;
  if (running_ >= script_.running_max && waiting >= script_.queue_max) {
    return fail(Cause::kQueueFull, std::to_string(waiting) + " requests wait already");
  }
  Play play;
  for (const ScriptLine& line : script_.lines) {
    if (line.match && request.said.find(*line.match) == std::string::npos) continue;
    if (line.times > 0 && played_[&line] >= line.times) continue;
    ++played_[&line];
    play.line = &line;
    break;
  }
  play.request = std::move(request);
  play.sink = std::move(sink);
  TokenEvent queued;
  queued.kind = TokenEvent::Kind::kQueued;
  play.sink->Push(std::move(queued));
  const Ticket ticket = next_ticket_++;
  plays_.emplace(ticket, std::move(play));
  changed_.notify_one();
  return ticket;
}

void ScriptBackend::Cancel(Ticket ticket) {
  const std::lock_guard lock(mutex_);
  const auto found = plays_.find(ticket);
  if (found == plays_.end()) return;
  End(&found->second, runtime::StopReason::kCancelled);
  running_ -= found->second.running ? 1 : 0;
  plays_.erase(found);
  changed_.notify_one();
}

BackendLoad ScriptBackend::load() const {
  const std::lock_guard lock(mutex_);
  BackendLoad load;
  load.running = running_;
  load.waiting = static_cast<int64_t>(plays_.size()) - running_;
  return load;
}

void ScriptBackend::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (auto& [ticket, play] : plays_) {
      TokenEvent event;
      event.kind = TokenEvent::Kind::kFailed;
      event.failure = std::make_shared<const Failure>(
          Failure{Cause::kStopping, Error(Code::kCancelled, "the server is stopping"), 0.0});
      play.sink->Push(std::move(event));
    }
    plays_.clear();
    running_ = 0;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

// --- The thread ----------------------------------------------------------------------------------

void ScriptBackend::Run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const auto now = Clock::now();
    auto next = Clock::time_point::max();
    for (auto at = plays_.begin(); at != plays_.end();) {
      Play& play = at->second;
      if (!play.running && running_ < script_.running_max) Start(&play, now);
      if (play.running && play.due <= now && !Advance(&play, now)) {
        at = plays_.erase(at);
        --running_;
        next = now;  // somebody may start
        continue;
      }
      if (play.running) next = std::min(next, play.due);
      ++at;
    }
    if (next == Clock::time_point::max()) {
      changed_.wait(lock);
    } else {
      changed_.wait_until(lock, next);
    }
  }
}

// As a prefix tree would: the beginning that an earlier prompt had, too, but for the last token.
int64_t ScriptBackend::Known(const std::vector<int32_t>& prompt) {
  int64_t known = 0;
  for (const auto& other : prompts_) {
    const auto parted = std::mismatch(prompt.begin(), prompt.end(), other.begin(), other.end());
    known = std::max<int64_t>(known, parted.first - prompt.begin());
  }
  prompts_.push_back(prompt);
  if (prompts_.size() > kPromptsKept) prompts_.pop_front();
  return std::max<int64_t>(0, std::min(known, static_cast<int64_t>(prompt.size()) - 1));
}

void ScriptBackend::Start(Play* play, Clock::time_point now) {
  play->running = true;
  ++running_;
  play->due = now + std::chrono::milliseconds(play->line == nullptr ? 0 : play->line->start_ms);
  TokenEvent event;
  event.kind = TokenEvent::Kind::kStarted;
  event.tokens = Known(play->request.request.prompt);
  play->sink->Push(event);
  const auto& prompt = play->request.request.prompt;
  event.kind = TokenEvent::Kind::kProgress;
  event.tokens = static_cast<int64_t>(prompt.size());
  play->sink->Push(event);
  if (play->request.request.pool_hidden) {
    TokenEvent pooled;
    pooled.kind = TokenEvent::Kind::kPooled;
    for (const int32_t token : prompt) pooled.pooled.push_back(static_cast<float>(token));
    pooled.pooled.resize(8, 1.0f);
    play->sink->Push(std::move(pooled));
  }
  if (play->request.request.prompt_logprobs < 0) return;
  event.kind = TokenEvent::Kind::kPromptToken;
  for (size_t i = 1; i < prompt.size(); ++i) {
    event.tokens = static_cast<int64_t>(i);
    event.token = prompt[i];
    event.logprob = -0.5;
    event.likeliest = {{prompt[i], -0.5}};
    play->sink->Push(event);
  }
}

void ScriptBackend::End(Play* play, runtime::StopReason stop) const {
  TokenEvent event;
  event.kind = TokenEvent::Kind::kFinished;
  event.stop = stop;
  play->sink->Push(std::move(event));
}

bool ScriptBackend::Advance(Play* play, Clock::time_point now) {
  const runtime::Request& request = play->request.request;
  const auto at = static_cast<int64_t>(play->at);
  const bool over = play->line == nullptr || play->at == play->line->tokens.size();
  if (over && play->line != nullptr && !play->line->fail.empty()) {
    TokenEvent event;
    event.kind = TokenEvent::Kind::kFailed;
    event.failure = std::make_shared<const Failure>(
        Failure{Cause::kInternal, Error(Code::kInternal, play->line->fail), 0.0});
    play->sink->Push(std::move(event));
    return false;
  }
  if (over) {
    End(play, runtime::StopReason::kStopToken);
    return false;
  }
  if (request.tokens_max >= 0 && at >= request.tokens_max) {
    End(play, runtime::StopReason::kLength);
    return false;
  }
  const int32_t token = play->line->tokens[play->at++];
  if (std::find(request.stop_ids.begin(), request.stop_ids.end(), token) !=
      request.stop_ids.end()) {
    End(play, runtime::StopReason::kStopToken);
    return false;
  }
  TokenEvent event;
  event.token = token;
  event.tokens = static_cast<int64_t>(request.prompt.size()) + at + 1;
  if (request.sampling.logprobs >= 0) {
    event.logprob = -0.25;
    for (int64_t i = 0; i < request.sampling.logprobs; ++i) {
      const auto other = static_cast<int32_t>((token + i) % vocabulary_);
      event.likeliest.push_back({other, -0.25 - static_cast<double>(i)});
    }
  }
  play->sink->Push(std::move(event));
  play->due = now + std::chrono::milliseconds(play->line->delay_ms);
  return true;
}

}  // namespace lode::chat
