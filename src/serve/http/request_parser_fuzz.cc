// Bytes of a connection: any, in one piece and in many, give the same requests.
#include <algorithm>
#include <string>

#include "base/check.h"
#include "serve/http/request_parser.h"

namespace {

using lode::serve::RequestParser;

struct Seen {
  RequestParser::State state = RequestParser::State::kHeader;
  int status = 0;
  std::string method, path, body;
  size_t headers = 0;
  bool operator==(const Seen&) const = default;
};

Seen Feed(const std::string& bytes, size_t step) {
  RequestParser parser({.header_bytes = 512, .body_bytes = 1024});
  std::string in;
  for (size_t at = 0; at < bytes.size(); at += step) {
    in.append(bytes, at, step);
    const auto state = parser.Feed(&in);
    if (state == RequestParser::State::kDone || state == RequestParser::State::kFailed) break;
  }
  Seen seen;
  seen.state = parser.state();
  if (seen.state == RequestParser::State::kFailed) {
    LODE_CHECK(parser.status() >= 400 && !parser.reason().empty());
    return seen;
  }
  LODE_CHECK(parser.body_bytes() <= 1024);
  if (seen.state != RequestParser::State::kDone) return seen;
  const auto& request = parser.request();
  return {seen.state, 0, request.method, request.path, request.body, request.headers.size()};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), std::min<size_t>(size, 4096));
  const Seen whole = Feed(bytes, 4096);
  const Seen single = Feed(bytes, 1);
  const Seen some = Feed(bytes, 7);
  // What a refusal was may depend on how much was there; whether there is one may not.
  LODE_CHECK(whole == single);
  LODE_CHECK(whole == some);
  return 0;
}
