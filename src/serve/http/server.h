// The HTTP server: one thread for all connections, a few workers for what takes time. Everything a
// client can make it hold or wait for has a limit.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "serve/http/request_parser.h"
#include "serve/http/site.h"

namespace lode::serve {

struct ServerOptions {
  std::string host = "127.0.0.1";          // or unix:PATH
  uint16_t port = 8000;                    // 0: any that is free
  std::string certificate_file, key_file;  // PEM; both or none: TLS
  std::string client_ca_file;  // PEM; TLS clients must have a certificate by one of these
  int workers = 2;
  ParserLimits parser;
  size_t connections_max = 4096;
  uint64_t bodies_bytes_max = uint64_t{512} << 20;  // of all requests that are being read
  size_t pending_bytes_max = 256 << 10;  // that wait to be sent, before an answer has to wait
  std::chrono::seconds header_time{15};  // from a request's first byte to its head
  std::chrono::seconds body_gap{20};     // without a byte of a body
  std::chrono::seconds body_time{300};
  std::chrono::seconds idle_time{75};   // between two requests
  std::chrono::seconds write_gap{30};   // without a byte taken by the other side
  std::chrono::seconds keep_alive{15};  // without a byte for it
  std::chrono::seconds answer_time{0};  // from a request's first byte on; 0: no limit
  std::chrono::seconds drain_time{30};  // that running requests get when the server ends
};

class Server {
 public:
  // `site` must outlive it. Listens at once, answers in Run.
  // Errors: kBadInput for a host or certificate that is none; kNoSpace when the port is taken.
  static Result<std::unique_ptr<Server>> Listen(const ServerOptions& options, Site* site);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  uint16_t port() const;  // 0: none, a socket in the file system
  // From now on SIGINT and SIGTERM do what Stop does. To be called before anybody is told that the
  // server is there: a signal that comes before Run is not lost.
  void CatchSignals();
  // Until Stop. `drained` is called when running requests have ended or had their time: it must
  // make those that are left end.
  void Run(const std::function<void()>& drained);
  // Any thread. Takes no new requests; Run returns when the running ones have ended. The second
  // call gives them no more time.
  void Stop();

  bool draining() const;
  size_t connections() const;
  size_t busy() const;  // connections with a request that is being answered

  struct State;

 private:
  explicit Server(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace lode::serve
