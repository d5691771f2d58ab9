#include "serve/http/request_parser.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/optional.hpp>

namespace lode::serve {
namespace {

namespace http = boost::beast::http;
using ErrorCode = boost::system::error_code;
using View = boost::beast::string_view;

constexpr size_t kHeadersMax = 128;
constexpr size_t kTargetMax = 8 << 10;

std::string Lower(View text) {
  std::string lower(text.data(), text.size());
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  return lower;
}

}  // namespace

const char* StatusText(int status) {
  static thread_local std::string text;
  if (status == 499) return "Client Closed Request";
  const auto view = http::obsolete_reason(static_cast<http::status>(status));
  text.assign(view.data(), view.size());
  return text.c_str();
}

struct RequestParser::Parser final : public http::basic_parser<true> {
  HttpRequest request;
  State state = State::kHeader;
  int status = 400;
  std::string reason;
  bool expects_continue = false;

  void Fail(int with, std::string why) {
    state = State::kFailed;
    status = with;
    reason = std::move(why);
  }

  void on_request_impl(http::verb, View method, View target, int version, ErrorCode& ec) override {
    request.method.assign(method.data(), method.size());
    if (target.size() > kTargetMax) {
      Fail(414, "the path is too long");
      ec = http::error::bad_target;
      return;
    }
    std::string_view whole(target.data(), target.size());
    if (whole.starts_with("http://") || whole.starts_with("https://")) {  // as proxies write it
      const size_t slash = whole.find('/', whole.find("://") + 3);
      whole = slash == std::string_view::npos ? "/" : whole.substr(slash);
    }
    const size_t mark = whole.find('?');
    request.path = whole.substr(0, mark);
    if (mark != std::string_view::npos) request.query = whole.substr(mark + 1);
    request.http10 = version < 11;
  }
  void on_response_impl(int, View, int, ErrorCode&) override {}
  void on_field_impl(http::field, View name, View value, ErrorCode& ec) override {
    if (request.headers.size() >= kHeadersMax) {
      Fail(431, "there are too many headers");
      ec = http::error::header_limit;
      return;
    }
    request.headers.emplace_back(Lower(name), std::string(value.data(), value.size()));
  }
  void on_header_impl(ErrorCode&) override {
    state = State::kBody;
    request.keep_alive = keep_alive();
    expects_continue = Lower(View(request.Header("expect").data(),
                                  request.Header("expect").size())) == "100-continue";
  }
  void on_body_init_impl(const boost::optional<std::uint64_t>&, ErrorCode&) override {}
  std::size_t on_body_impl(View body, ErrorCode&) override {
    request.body.append(body.data(), body.size());
    return body.size();
  }
  void on_chunk_header_impl(std::uint64_t, View, ErrorCode&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, View body, ErrorCode&) override {
    request.body.append(body.data(), body.size());
    return body.size();
  }
  void on_finish_impl(ErrorCode&) override { state = State::kDone; }
};

RequestParser::RequestParser(const ParserLimits& limits) : parser_(std::make_unique<Parser>()) {
  parser_->header_limit(limits.header_bytes);
  parser_->body_limit(limits.body_bytes);
  parser_->eager(true);
}

RequestParser::~RequestParser() = default;

RequestParser::State RequestParser::Feed(std::string* bytes) {
  Parser& parser = *parser_;
  size_t at = 0;
  while (parser.state != State::kDone && parser.state != State::kFailed && at < bytes->size()) {
    ErrorCode ec;
    const size_t taken =
        parser.put(boost::asio::const_buffer(bytes->data() + at, bytes->size() - at), ec);
    at += taken;
    if (ec == http::error::need_more) break;
    if (!ec || parser.state == State::kFailed) continue;
    if (ec == http::error::body_limit) {
      parser.Fail(413, "the body is too large");
    } else if (ec == http::error::header_limit) {
      parser.Fail(431, "the headers are too large");
    } else {
      parser.Fail(400, "this is not HTTP/1.1: " + ec.message());
    }
  }
  bytes->erase(0, at);
  return parser.state;
}

RequestParser::State RequestParser::state() const { return parser_->state; }
HttpRequest& RequestParser::request() { return parser_->request; }
bool RequestParser::expects_continue() const { return parser_->expects_continue; }
size_t RequestParser::body_bytes() const { return parser_->request.body.size(); }
int RequestParser::status() const { return parser_->status; }
std::string_view RequestParser::reason() const { return parser_->reason; }

}  // namespace lode::serve
