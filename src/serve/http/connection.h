// One connection: reads a request, has it answered, reads the next. Notices at any time that the
// other side has gone, and ends what was done for it.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <unordered_set>

#include "serve/http/server.h"
#include "serve/http/site.h"
#include "serve/http/transport.h"

namespace lode::serve {

class Connection;

// What the connections of a server share. Threads: the server's, but for `io` and `workers`.
struct ServerCore {
  ServerOptions options;
  Site* site = nullptr;
  boost::asio::io_context io{1};
  std::unique_ptr<boost::asio::thread_pool> workers;
  std::unordered_set<std::shared_ptr<Connection>> connections;
  std::string scratch = std::string(64 << 10, '\0');
  uint64_t bodies_bytes = 0;
  std::atomic<size_t> busy{0}, open{0};
  std::atomic<bool> draining{false};
  uint64_t next_id = 0;
  std::string id_prefix;  // of request ids; differs between processes
};

class Connection : public std::enable_shared_from_this<Connection>, public Outlet {
 public:
  using Clock = std::chrono::steady_clock;

  Connection(ServerCore* core, std::unique_ptr<Transport> transport, std::string remote);
  ~Connection() override;

  void Start();
  // Looks at the deadlines.
  void Tick(Clock::time_point now);
  // Ends it unless it answers a request. With `at_once` in any case.
  void Quit(bool at_once);
  bool idle() const { return phase_ == Phase::kHead && in_.empty(); }
  Clock::time_point since() const { return phase_start_; }

  void Respond(HttpResponse response) override;
  void Begin(HttpResponse head) override;
  void Write(std::string_view bytes) override;
  void End() override;
  bool begun() const override { return begun_; }
  bool full() const override;

 private:
  enum class Phase : uint8_t {
    kOpening,  // the handshake
    kHead,     // before and in a request's head
    kBody,
    kWorking,    // a worker has it
    kAnswering,  // an exchange
    kFlushing,   // the response is made and being sent
    kLingering,  // sent, and the other side may still be sending
    kClosed,
  };

  void Enter(Phase phase);
  void Read();
  void OnRead(ErrorCode ec, std::string_view bytes);
  void Process();
  void OnHead();
  void Handle();
  void Worked(Reaction reaction);
  void Advance();
  void Fail(int status, std::string_view reason);
  void AppendHead(const HttpResponse& response, bool chunked);
  void Flush();
  void OnWrote(ErrorCode ec, size_t bytes);
  void Finished();
  void Report(int status);
  void GoOn();
  void Close();

  ServerCore* core_;
  std::unique_ptr<Transport> transport_;
  std::string remote_;
  Phase phase_ = Phase::kOpening;
  Clock::time_point phase_start_, request_start_, last_read_, last_write_;

  std::string in_;
  bool reading_ = false;
  std::unique_ptr<RequestParser> parser_;
  uint64_t counted_body_ = 0;  // of core_->bodies_bytes
  bool admitted_ = false;
  bool reported_ = true;

  std::unique_ptr<Exchange> exchange_;
  std::shared_ptr<bool> waking_;  // an Advance is on its way
  bool keep_alive_ = false, begun_ = false, chunked_ = false;
  int status_ = 0;
  uint64_t sent_ = 0;

  std::string out_, sending_;  // what waits, and what is being sent from `sending_at_` on
  size_t sending_at_ = 0;
  bool writing_ = false;
  bool stalled_ = false;  // the exchange waits for room to write
};

}  // namespace lode::serve
