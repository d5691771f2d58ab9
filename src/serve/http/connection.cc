#include "serve/http/connection.h"

#include <atomic>
#include <boost/asio/post.hpp>
#include <utility>

#include "base/text.h"

namespace lode::serve {
namespace {

constexpr size_t kPipelinedMax = 64 << 10;
constexpr std::chrono::seconds kLinger{3};
constexpr size_t kRequestIdMax = 128;

bool GoodId(std::string_view id) {
  if (id.empty() || id.size() > kRequestIdMax) return false;
  for (const char c : id) {
    if (c <= ' ' || c > '~' || c == '"' || c == '\\') return false;
  }
  return true;
}

}  // namespace

Connection::Connection(ServerCore* core, std::unique_ptr<Transport> transport, std::string remote)
    : core_(core), transport_(std::move(transport)), remote_(std::move(remote)) {
  core_->open.fetch_add(1);
}

Connection::~Connection() { core_->open.fetch_sub(1); }

void Connection::Start() {
  Enter(Phase::kOpening);
  transport_->Open([self = shared_from_this()](ErrorCode ec) {
    if (self->phase_ == Phase::kClosed) return;
    if (ec) return self->Close();
    self->GoOn();
  });
}

void Connection::Enter(Phase phase) {
  const auto busy = [](Phase p) {
    return p == Phase::kWorking || p == Phase::kAnswering || p == Phase::kFlushing;
  };
  if (busy(phase) && !busy(phase_)) core_->busy.fetch_add(1);
  if (!busy(phase) && busy(phase_)) core_->busy.fetch_sub(1);
  phase_ = phase;
  phase_start_ = last_read_ = last_write_ = Clock::now();
}

// The next request, or the end.
void Connection::GoOn() {
  exchange_.reset();
  parser_ = std::make_unique<RequestParser>(core_->options.parser);
  begun_ = chunked_ = admitted_ = stalled_ = false;
  sent_ = 0;
  Enter(Phase::kHead);
  Process();
}

// --- Reading -------------------------------------------------------------------------------------

void Connection::Read() {
  if (reading_ || phase_ == Phase::kClosed) return;
  if (in_.size() >= kPipelinedMax && phase_ != Phase::kHead && phase_ != Phase::kBody) return;
  reading_ = true;
  transport_->ReadSome([self = shared_from_this()](ErrorCode ec, std::string_view bytes) {
    self->reading_ = false;
    self->OnRead(ec, bytes);
  });
}

void Connection::OnRead(ErrorCode ec, std::string_view bytes) {
  if (phase_ == Phase::kClosed) return;
  if (ec || bytes.empty()) {  // gone, whatever was being done for it
    if (!reported_) Report(499);
    return Close();
  }
  last_read_ = Clock::now();
  if (phase_ == Phase::kLingering) return Read();
  if (phase_ == Phase::kHead && in_.empty()) phase_start_ = last_read_;
  in_ += bytes;
  if (phase_ == Phase::kHead || phase_ == Phase::kBody) Process();
  Read();
}

void Connection::Process() {
  if (in_.empty()) return Read();
  if (reported_ && phase_ == Phase::kHead) {
    request_start_ = Clock::now();
    reported_ = false;
  }
  const auto state = parser_->Feed(&in_);
  const uint64_t body = parser_->body_bytes();
  core_->bodies_bytes += body - counted_body_;
  counted_body_ = body;
  if (state == RequestParser::State::kFailed) {
    return Fail(parser_->status(), parser_->reason());
  }
  if (state == RequestParser::State::kHeader) return Read();
  if (!admitted_) OnHead();
  if (phase_ != Phase::kHead && phase_ != Phase::kBody) return;  // refused
  if (phase_ == Phase::kHead) Enter(Phase::kBody);
  if (state == RequestParser::State::kDone) return Handle();
  if (core_->bodies_bytes > core_->options.bodies_bytes_max) {
    return Fail(503, "too much is being sent to this server at once");
  }
  Read();
}

void Connection::OnHead() {
  admitted_ = true;
  HttpRequest& request = parser_->request();
  request.remote = remote_;
  const std::string_view given = request.Header("x-request-id");
  request.id =
      GoodId(given)
          ? std::string(given)
          : core_->id_prefix + Format("%08llx", static_cast<unsigned long long>(++core_->next_id));
  if (auto refused = core_->site->Admit(&request)) {
    keep_alive_ = false;
    return Respond(std::move(*refused));
  }
  if (parser_->expects_continue() && !request.http10) {
    out_ += "HTTP/1.1 100 Continue\r\n\r\n";
    Flush();
  }
}

// --- Answering -----------------------------------------------------------------------------------

void Connection::Handle() {
  const HttpRequest& request = parser_->request();
  keep_alive_ = request.keep_alive;
  Enter(Phase::kWorking);
  if (auto quick = core_->site->Quick(request)) return Respond(std::move(*quick));
  waking_ = std::make_shared<bool>(false);
  const auto posted = std::make_shared<std::atomic<bool>>(false);
  std::function<void()> wake = [core = core_, weak = weak_from_this(), posted,
                                current = std::weak_ptr<bool>(waking_)] {
    if (posted->exchange(true)) return;
    boost::asio::post(core->io, [weak, posted, current] {
      posted->store(false);
      const auto self = weak.lock();
      if (self == nullptr || current.lock() != self->waking_) return;
      self->Advance();
    });
  };
  boost::asio::post(*core_->workers, [self = shared_from_this(), wake = std::move(wake)] {
    auto reaction =
        std::make_shared<Reaction>(self->core_->site->Handle(self->parser_->request(), wake));
    boost::asio::post(self->core_->io, [self, reaction] { self->Worked(std::move(*reaction)); });
  });
  Read();
}

void Connection::Worked(Reaction reaction) {
  core_->bodies_bytes -= std::exchange(counted_body_, 0);
  if (phase_ == Phase::kClosed) return;  // the exchange ends with `reaction`
  std::string().swap(parser_->request().body);
  if (reaction.exchange == nullptr) return Respond(std::move(reaction.response));
  exchange_ = std::move(reaction.exchange);
  Enter(Phase::kAnswering);
  Advance();
}

void Connection::Advance() {
  if (phase_ != Phase::kAnswering) return;
  if (!full()) exchange_->Advance(this);
  stalled_ = phase_ == Phase::kAnswering && full();
}

void Connection::Fail(int status, std::string_view reason) {
  keep_alive_ = false;
  HttpRequest& request = parser_->request();
  if (request.id.empty()) {
    request.remote = remote_;
    request.id = core_->id_prefix + "bad";
  }
  Respond(core_->site->Refuse(request, status, reason));
}

// --- Writing -------------------------------------------------------------------------------------

bool Connection::full() const { return out_.size() >= core_->options.pending_bytes_max; }

void Connection::AppendHead(const HttpResponse& response, bool chunked) {
  HttpResponse decorated = {response.status, response.content_type, response.headers, {}};
  core_->site->Decorate(parser_->request(), &decorated);
  status_ = response.status;
  if (core_->draining) keep_alive_ = false;
  out_ += Format("HTTP/1.1 %d ", response.status);
  out_ += StatusText(response.status);
  out_ += "\r\nServer: lode\r\nX-Request-Id: " + parser_->request().id;
  if (!decorated.content_type.empty()) out_ += "\r\nContent-Type: " + decorated.content_type;
  for (const auto& [name, value] : decorated.headers) {
    out_ += "\r\n" + name + ": " + value;
  }
  if (chunked) {
    out_ += "\r\nTransfer-Encoding: chunked";
  } else if (!begun_) {
    out_ += "\r\nContent-Length: " + std::to_string(response.body.size());
  }
  out_ += keep_alive_ ? "\r\nConnection: keep-alive\r\n\r\n" : "\r\nConnection: close\r\n\r\n";
}

void Connection::Respond(HttpResponse response) {
  AppendHead(response, false);
  if (parser_->request().method != "HEAD") out_ += response.body;
  Enter(Phase::kFlushing);
  Flush();
}

void Connection::Begin(HttpResponse head) {
  begun_ = true;
  chunked_ = !parser_->request().http10;
  if (!chunked_) keep_alive_ = false;
  AppendHead(head, chunked_);
  Flush();
}

void Connection::Write(std::string_view bytes) {
  if (bytes.empty()) return;
  if (chunked_) out_ += Format("%zx\r\n", bytes.size());
  out_ += bytes;
  if (chunked_) out_ += "\r\n";
  Flush();
}

void Connection::End() {
  if (chunked_) out_ += "0\r\n\r\n";
  Enter(Phase::kFlushing);
  Flush();
}

// Posted, so that all that is written in one go is sent in one go.
void Connection::Flush() {
  if (writing_ || phase_ == Phase::kClosed) return;
  writing_ = true;
  boost::asio::post(core_->io, [self = shared_from_this()] { self->OnWrote({}, 0); });
}

void Connection::OnWrote(ErrorCode ec, size_t bytes) {
  writing_ = false;
  if (phase_ == Phase::kClosed) return;
  if (ec) {
    if (!reported_) Report(499);
    return Close();
  }
  if (bytes > 0) last_write_ = Clock::now();
  sent_ += bytes;
  sending_at_ += bytes;
  if (sending_at_ == sending_.size()) {
    sending_.clear();
    sending_at_ = 0;
    std::swap(sending_, out_);
    if (std::exchange(stalled_, false)) {
      boost::asio::post(core_->io, [self = shared_from_this()] { self->Advance(); });
    }
  }
  if (sending_.empty()) {
    if (phase_ == Phase::kFlushing) Finished();
    return;
  }
  writing_ = true;
  transport_->WriteSome(
      std::string_view(sending_).substr(sending_at_),
      [self = shared_from_this()](ErrorCode wrote, size_t count) { self->OnWrote(wrote, count); });
}

// --- The end -------------------------------------------------------------------------------------

void Connection::Report(int status) {
  reported_ = true;
  Access access;
  access.request = &parser_->request();
  access.status = status;
  access.bytes = sent_;
  access.milliseconds =
      std::chrono::duration<double, std::milli>(Clock::now() - request_start_).count();
  access.exchange = exchange_.get();
  core_->site->Finished(access);
}

// All of the response is sent.
void Connection::Finished() {
  core_->bodies_bytes -= std::exchange(counted_body_, 0);
  if (!reported_) Report(status_);
  waking_.reset();
  const bool whole = parser_->state() == RequestParser::State::kDone;
  if (keep_alive_ && whole && !core_->draining) return GoOn();
  exchange_.reset();
  Enter(Phase::kLingering);  // closing at once would take the response from who is still sending
  transport_->FinishWriting();
  Read();
}

void Connection::Close() {
  if (phase_ == Phase::kClosed) return;
  const auto self = shared_from_this();
  // A worker that still has the request counts its body until it is done.
  if (phase_ != Phase::kWorking) core_->bodies_bytes -= std::exchange(counted_body_, 0);
  Enter(Phase::kClosed);
  exchange_.reset();
  waking_.reset();
  transport_->Close();
  core_->connections.erase(self);
}

void Connection::Quit(bool at_once) {
  if (phase_ == Phase::kClosed) return;
  const bool busy =
      phase_ == Phase::kWorking || phase_ == Phase::kAnswering || phase_ == Phase::kFlushing;
  if (busy && !at_once) return;
  if (!reported_) Report(499);
  Close();
}

void Connection::Tick(Clock::time_point now) {
  const ServerOptions& options = core_->options;
  const auto over = [&](Clock::time_point since, std::chrono::seconds limit) {
    return now - since > limit;
  };
  switch (phase_) {
    case Phase::kOpening:
      if (over(phase_start_, options.header_time)) Close();
      break;
    case Phase::kHead:
      if (in_.empty() && over(phase_start_, options.idle_time)) return Close();
      if (!in_.empty() && over(phase_start_, options.header_time)) {
        Fail(408, "the headers did not come in time");
      }
      break;
    case Phase::kBody:
      if (over(last_read_, options.body_gap) || over(phase_start_, options.body_time)) {
        Fail(408, "the body did not come in time");
      }
      break;
    case Phase::kAnswering:
      if (options.answer_time.count() > 0 && over(request_start_, options.answer_time)) {
        const std::unique_ptr<Exchange> late = std::move(exchange_);  // ends what it stands for
        late->TimedOut(this);
        break;
      }
      [[fallthrough]];
    case Phase::kFlushing:
      if (writing_ && over(last_write_, options.write_gap)) {  // it does not read
        if (!reported_) Report(499);
        return Close();
      }
      if (phase_ == Phase::kAnswering && !writing_ && over(last_write_, options.keep_alive)) {
        last_write_ = now;
        exchange_->KeepAlive(this);
      }
      break;
    case Phase::kLingering:
      if (over(phase_start_, kLinger)) Close();
      break;
    case Phase::kWorking:
    case Phase::kClosed:
      break;
  }
}

}  // namespace lode::serve
