// One HTTP conversation at a time over libcurl: requests with a bearer token, ranges and redirects.
// Not a general client, and the only file of Lode that opens outbound connections.
//
// The surprising policy: redirects are followed here, not by libcurl, because a token must reach
// the origin (scheme, host and port) it was meant for and no other, and because https is never left
// for http. A token is not sent over plain http either, except to this machine itself.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace lode::hub {

struct HttpResponse {
  int status = 0;
  std::string url;                             // after redirects
  std::map<std::string, std::string> headers;  // names in lower case, the last answer's
  int64_t retry_after_s = 0;                   // of Retry-After, a date or a number; 0 without one
  std::string body;                            // of a failed request, its first bytes

  std::string Header(const std::string& lower_name) const {
    const auto found = headers.find(lower_name);
    return found == headers.end() ? "" : found->second;
  }
};

struct HttpRequest {
  std::string url;
  std::string token;
  bool head = false;
  bool follow = true;        // redirects; else the first answer is the answer
  int64_t range_first = -1;  // inclusive, in bytes; -1: no range asked for
  int64_t range_last = -1;
  // The final answer before its body; an Error ends the request and is returned by Send.
  std::function<Result<void>(const HttpResponse&)> on_headers;
  // Pieces of the body of a 2xx answer; an Error likewise.
  std::function<Result<void>(std::string_view)> on_body;
};

struct HttpLimits {
  int connect_timeout_s = 30;
  int stall_timeout_s = 60;  // without one byte
};

// Threads: one per session; sessions are independent.
class HttpSession {
 public:
  // `stop` is asked often, from Send; true ends the request with kCancelled.
  static Result<std::unique_ptr<HttpSession>> Create(const HttpLimits& limits,
                                                     std::function<bool()> stop);
  ~HttpSession();
  HttpSession(const HttpSession&) = delete;
  HttpSession& operator=(const HttpSession&) = delete;

  // Any status is a success of this call. Errors: kNetwork when trying again may help (nobody
  // answers, the connection broke, the body is short); kBadInput when not (a bad URL or
  // certificate, a redirect that is not allowed); kCancelled; what the callbacks returned.
  Result<HttpResponse> Send(const HttpRequest& request);

 private:
  struct Impl;
  explicit HttpSession(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Whether a token would be sent to `url`: https, or this machine.
bool TokenMayTravel(const std::string& url);
// "https://host:port" with the port made explicit, or empty when `url` is no http(s) URL.
std::string OriginOf(const std::string& url);
// One path component (or, with `keep_slashes`, a path) with everything unusual as %XX.
std::string UrlEscape(std::string_view text, bool keep_slashes = false);
// host/path of a URL for a message: signed addresses carry credentials in their query.
std::string UrlForPeople(const std::string& url);

}  // namespace lode::hub
