// Bytes -> HTTP/1 requests, with limits on everything. The grammar is Boost.Beast's; this keeps
// what it finds and turns its refusals into a status and a sentence.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "serve/http/message.h"

namespace lode::serve {

struct ParserLimits {
  uint32_t header_bytes = 32 << 10;
  uint64_t body_bytes = uint64_t{64} << 20;
};

// One request; another one needs another parser. Threads: one.
class RequestParser {
 public:
  explicit RequestParser(const ParserLimits& limits);
  ~RequestParser();
  RequestParser(const RequestParser&) = delete;
  RequestParser& operator=(const RequestParser&) = delete;

  enum class State : uint8_t {
    kHeader,  // more of it must come
    kBody,    // header() is whole, more of the body must come
    kDone,
    kFailed,  // status() and reason()
  };
  // Takes from the front of `bytes` what belongs to this request.
  State Feed(std::string* bytes);

  State state() const;
  HttpRequest& request();
  // The client waits for "100 Continue" before it sends the body.
  bool expects_continue() const;
  size_t body_bytes() const;  // so far
  int status() const;
  std::string_view reason() const;

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace lode::serve
