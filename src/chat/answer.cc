#include "chat/answer.h"

#include <algorithm>
#include <utility>

namespace lode::chat {

using Kind = AnswerEvent::Kind;

// --- The queue -----------------------------------------------------------------------------------

void AnswerQueue::Push(int choice, TokenEvent event) {
  const auto now = AnswerTimes::Clock::now();
  const std::lock_guard lock(mutex_);
  if (event.kind == TokenEvent::Kind::kStarted && times_.started == AnswerTimes{}.started) {
    times_.started = now;
  }
  if (event.kind == TokenEvent::Kind::kToken) {
    if (times_.first_token == AnswerTimes{}.first_token) times_.first_token = now;
    times_.last_token = now;
  }
  const bool first = events_.empty();
  events_.emplace_back(choice, std::move(event));
  if (first && wake_) wake_();
}

void AnswerQueue::Forget() {
  const std::lock_guard lock(mutex_);
  wake_ = nullptr;
}

void AnswerQueue::Take(std::deque<std::pair<int, TokenEvent>>* events) {
  const std::lock_guard lock(mutex_);
  if (events->empty()) {
    std::swap(*events, events_);
    return;
  }
  std::move(events_.begin(), events_.end(), std::back_inserter(*events));
  events_.clear();
}

AnswerTimes AnswerQueue::times() const {
  const std::lock_guard lock(mutex_);
  return times_;
}

namespace {

// The backend holds this, and not the answer: whose end must not depend on the backend's thread.
class ChoiceSink : public TokenSink {
 public:
  ChoiceSink(std::shared_ptr<AnswerQueue> queue, int choice)
      : queue_(std::move(queue)), choice_(choice) {}
  void Push(TokenEvent event) override { queue_->Push(choice_, std::move(event)); }

 private:
  std::shared_ptr<AnswerQueue> queue_;
  int choice_;
};

std::vector<text::OutputEvent> Content(std::string text) {
  std::vector<text::OutputEvent> events(1);
  events[0].text = std::move(text);
  return events;
}

}  // namespace

// --- The answer ----------------------------------------------------------------------------------

struct Answer::Choice {
  Choice(const text::Tokenizer& tokenizer, const AnswerOptions& options, int index)
      : decoder(tokenizer, options.skip_special), stops(options.stops, options.include_stop) {
    if (!options.parse) return;
    text::OutputParserOptions parsing = options.parsing;
    parsing.id_seed += static_cast<uint64_t>(index);
    parser = std::make_unique<text::OutputParser>(std::move(parsing));
    thinking = options.parsing.thinking;
  }

  text::StreamDecoder decoder;
  StopStrings stops;
  std::unique_ptr<text::OutputParser> parser;  // null: all is content
  std::optional<Ticket> ticket;
  std::vector<TokenReport> reports;
  EndedAnswer kept;       // where somebody wants it
  bool thinking = false;  // nothing but trace so far
  bool ended = false;
};

Answer::Answer(Backend* backend, const text::Tokenizer* tokenizer, AnswerOptions options,
               std::function<void()> wake)
    : backend_(backend),
      tokenizer_(tokenizer),
      options_(std::move(options)),
      queue_(std::make_shared<AnswerQueue>(std::move(wake))) {
  usage_.prompt = options_.prompt_tokens;
  for (int i = 0; i < options_.choices; ++i) {
    choices_.push_back(std::make_unique<Choice>(*tokenizer_, options_, i));
  }
  open_ = options_.choices;
  queue_->times_.submitted = AnswerTimes::Clock::now();
}

Answer::~Answer() {
  queue_->Forget();
  Cancel();
}

void Answer::Submit(int choice, TokenRequest request) {
  if (passed_ == kTogether) {
    held_.emplace_back(choice, std::move(request));
  } else {
    Pass(choice, std::move(request));
  }
}

void Answer::Pass(int choice, TokenRequest request) {
  ++passed_;
  auto ticket = backend_->Submit(std::move(request), std::make_shared<ChoiceSink>(queue_, choice));
  if (ticket.ok()) {
    choices_[static_cast<size_t>(choice)]->ticket = *ticket;
    return;
  }
  const bool full = ticket.error().code() == Code::kNoSpace;
  TokenEvent failed;
  failed.kind = TokenEvent::Kind::kFailed;
  failed.failure = std::make_shared<const Failure>(
      Failure{full ? Cause::kQueueFull : Cause::kStopping, std::move(ticket).error(), 1.0});
  queue_->Push(choice, std::move(failed));
}

void Answer::Cancel() {
  held_.clear();
  for (const auto& choice : choices_) {
    if (choice->ticket && !choice->ended) backend_->Cancel(*choice->ticket);
  }
}

int Answer::unknown_calls() const {
  int count = 0;
  for (const auto& choice : choices_) {
    if (choice->parser != nullptr) count += choice->parser->unknown_calls();
  }
  return count;
}

bool Answer::Poll(std::vector<AnswerEvent>* events, int64_t tokens_max) {
  queue_->Take(&pending_);
  while (!pending_.empty() && !done_ && tokens_max > 0) {
    auto [choice, event] = std::move(pending_.front());
    pending_.pop_front();
    if (choices_[static_cast<size_t>(choice)]->ended) continue;
    switch (event.kind) {
      case TokenEvent::Kind::kQueued:
        if (!std::exchange(queued_, true)) events->push_back({.kind = Kind::kQueued});
        break;
      case TokenEvent::Kind::kStarted:
        if (std::exchange(started_, true)) break;
        usage_.cached = event.tokens;
        match_ = std::move(event.match);
        events->push_back({.kind = Kind::kStarted, .tokens = event.tokens});
        break;
      case TokenEvent::Kind::kProgress:
        events->push_back({.kind = Kind::kProgress, .choice = choice, .tokens = event.tokens});
        break;
      case TokenEvent::Kind::kPromptToken:
        --tokens_max;
        events->push_back({.kind = Kind::kPrompt,
                           .choice = choice,
                           .reports = {{event.token, event.logprob, std::move(event.likeliest)}},
                           .tokens = event.tokens});
        break;
      case TokenEvent::Kind::kPooled:
        events->push_back(
            {.kind = Kind::kPooled, .choice = choice, .pooled = std::move(event.pooled)});
        break;
      case TokenEvent::Kind::kToken:
        --tokens_max;
        OnToken(choice, std::move(event), events);
        break;
      case TokenEvent::Kind::kFinished:
        Finish(choice, std::move(event), events);
        break;
      case TokenEvent::Kind::kFailed:
        choices_[static_cast<size_t>(choice)]->ended = true;
        options_.on_end = nullptr;
        Cancel();  // the other choices
        done_ = true;
        events->push_back(
            {.kind = Kind::kFailed, .choice = choice, .failure = std::move(event.failure)});
        break;
    }
  }
  return !pending_.empty() && !done_;
}

void Answer::OnToken(int index, TokenEvent event, std::vector<AnswerEvent>* events) {
  Choice& choice = *choices_[static_cast<size_t>(index)];
  ++usage_.completion;
  if (options_.on_end) choice.kept.tokens.push_back(event.token);
  if (choice.thinking) ++usage_.reasoning;
  if (!choice.thinking || options_.report_reasoning) {
    choice.reports.push_back({event.token, event.logprob, std::move(event.likeliest)});
  }
  std::string text = choice.decoder.Push(event.token);
  if (text.empty()) return;
  if (choice.parser != nullptr) {
    PassOn(index, choice.parser->Push(text), events);
  } else {
    PassOn(index, Content(std::move(text)), events);
  }
}

void Answer::PassOn(int index, std::vector<text::OutputEvent> outputs,
                    std::vector<AnswerEvent>* events) {
  Choice& choice = *choices_[static_cast<size_t>(index)];
  using OutputKind = text::OutputEvent::Kind;
  for (text::OutputEvent& output : outputs) {
    if (choice.ended) return;
    if (output.kind != OutputKind::kReasoning) choice.thinking = false;
    if (output.kind != OutputKind::kContent) {
      text::OutputEvent held;
      choice.stops.Flush(&held.text);
      if (!held.text.empty()) Emit(index, std::move(held), events);
      Emit(index, std::move(output), events);
      continue;
    }
    text::OutputEvent visible;
    const auto stop = choice.stops.Push(output.text, &visible.text);
    if (!visible.text.empty()) Emit(index, std::move(visible), events);
    if (stop) {
      choice.reports.clear();  // of tokens whose text is not given out
      if (choice.ticket) backend_->Cancel(*choice.ticket);
      End(index, text::FinishReason::kStop, *stop, events);
    }
  }
}

void Answer::Emit(int index, text::OutputEvent output, std::vector<AnswerEvent>* events) {
  if (options_.on_end) choices_[static_cast<size_t>(index)]->kept.output.Add({output});
  AnswerEvent event;
  event.choice = index;
  event.output = std::move(output);
  event.reports = std::exchange(choices_[static_cast<size_t>(index)]->reports, {});
  events->push_back(std::move(event));
}

void Answer::Finish(int index, TokenEvent event, std::vector<AnswerEvent>* events) {
  Choice& choice = *choices_[static_cast<size_t>(index)];
  const runtime::StopReason stop = event.stop;
  text::StopCause cause = text::StopCause::kStop;
  if (stop == runtime::StopReason::kCancelled) cause = text::StopCause::kCancelled;
  if (stop == runtime::StopReason::kLength || stop == runtime::StopReason::kContextFull) {
    cause = text::StopCause::kLength;
  }
  std::string rest = choice.decoder.Flush();
  text::FinishReason reason = cause == text::StopCause::kLength ? text::FinishReason::kLength
                              : cause == text::StopCause::kCancelled
                                  ? text::FinishReason::kCancelled
                                  : text::FinishReason::kStop;
  if (choice.parser == nullptr) {
    if (!rest.empty()) PassOn(index, Content(std::move(rest)), events);
  } else {
    PassOn(index, choice.parser->Push(rest), events);
    if (!choice.ended) PassOn(index, choice.parser->Finish(cause), events);
    if (!choice.ended) reason = choice.parser->finish_reason();
  }
  if (choice.ended) return;  // by a stop string in what was left
  // Those who judge a text ask for one token more and leave the last out: it must be there. In a
  // dialogue the reports spell the answer, and a stop token is no part of that.
  if (event.drawn && choice.parser == nullptr) {
    choice.reports.push_back({event.token, event.logprob, std::move(event.likeliest)});
  }
  text::OutputEvent held;
  choice.stops.Flush(&held.text);
  if (!held.text.empty()) Emit(index, std::move(held), events);
  End(index, reason, "", events);
}

void Answer::End(int index, text::FinishReason reason, std::string stop_string,
                 std::vector<AnswerEvent>* events) {
  Choice& choice = *choices_[static_cast<size_t>(index)];
  choice.ended = true;
  // Whoever keeps it is let go before the last event is told.
  const auto keep = std::exchange(options_.on_end, nullptr);
  if (keep && reason != text::FinishReason::kCancelled) {
    choice.kept.match = match_;
    keep(std::move(choice.kept));
  }
  AnswerEvent event;
  event.kind = Kind::kFinished;
  event.choice = index;
  event.finish = reason;
  event.stop_string = std::move(stop_string);
  event.reports = std::exchange(choice.reports, {});
  events->push_back(std::move(event));
  done_ = --open_ == 0;
  --passed_;
  if (held_.empty()) return;
  auto [next, request] = std::move(held_.front());
  held_.pop_front();
  Pass(next, std::move(request));
}

}  // namespace lode::chat
