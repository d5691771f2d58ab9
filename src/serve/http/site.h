// What the HTTP server asks of whoever answers: the only thing the two know of each other.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "serve/http/message.h"

namespace lode::serve {

// Where an answer in the making writes to. Threads: the server's.
class Outlet {
 public:
  virtual ~Outlet() = default;
  // The whole response; nothing may have begun. It is the last call.
  virtual void Respond(HttpResponse response) = 0;
  // A response of events: its head now, then pieces, then the end.
  virtual void Begin(HttpResponse head) = 0;
  virtual void Write(std::string_view bytes) = 0;
  virtual void End() = 0;
  virtual bool begun() const = 0;
  // So much waits to be sent that more should not be made now; Advance is called when it is less.
  virtual bool full() const = 0;
};

// A response that takes time. It is destroyed when it has ended or its client has gone, and must
// end what it stands for then. Threads: the server's; it may be made on another.
class Exchange {
 public:
  virtual ~Exchange() = default;
  // Something has come, or there is room to write again.
  virtual void Advance(Outlet* out) = 0;
  // Nothing was written for a while.
  virtual void KeepAlive(Outlet* out) = 0;
  // The time for an answer is over: says so, and ends.
  virtual void TimedOut(Outlet* out) {
    if (!out->begun()) return out->Respond({.status = 504});
    out->End();
  }
  // Fields for the log line; no text of a prompt or an answer.
  virtual void Describe(Json* fields) const = 0;
};

// Either a whole response, or an exchange.
struct Reaction {
  HttpResponse response;
  std::unique_ptr<Exchange> exchange = nullptr;
};

// One request that is over.
struct Access {
  const HttpRequest* request = nullptr;
  int status = 0;      // 499: the client went away first
  uint64_t bytes = 0;  // sent
  double milliseconds = 0.0;
  const Exchange* exchange = nullptr;
};

class Site {
 public:
  virtual ~Site() = default;
  // On the server's thread, when the head of a request is known and its body is not: who may come
  // in. Sets `request->tenant`. A response: it is refused.
  virtual std::optional<HttpResponse> Admit(HttpRequest* request) = 0;
  // On the server's thread: what is answered at once, without work. None: Handle is called.
  virtual std::optional<HttpResponse> Quick(const HttpRequest& request) = 0;
  // On a worker's thread. `wake` may be called from any thread as long as the exchange lives:
  // Advance follows.
  virtual Reaction Handle(const HttpRequest& request, std::function<void()> wake) = 0;
  // On the server's thread. What goes wrong below this site's notice: too large, not HTTP, too
  // slow.
  virtual HttpResponse Refuse(const HttpRequest& request, int status, std::string_view reason) = 0;
  // Headers that every response gets (CORS).
  virtual void Decorate(const HttpRequest& request, HttpResponse* response) = 0;
  virtual void Finished(const Access& access) = 0;
  // About once a second, on the server's thread.
  virtual void Tick() = 0;
};

}  // namespace lode::serve
