// Requests and responses as plain data: what a handler sees of HTTP.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lode::serve {

struct HttpRequest {
  std::string id;      // of ours, or the client's own; printable, short
  std::string method;  // "GET"
  std::string path;    // before '?'
  std::string query;   // after it
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;
  std::string remote;  // address of the other side
  std::string tenant;  // whose key it came with; empty: nobody's in particular
  bool keep_alive = true;
  bool http10 = false;

  // Empty when it is not there. Several of one name: the first.
  std::string_view Header(std::string_view name) const {
    for (const auto& [own, value] : headers) {
      if (own == name) return value;
    }
    return {};
  }
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers = {};
  std::string body = {};
};

// "Not Found".
const char* StatusText(int status);

}  // namespace lode::serve
