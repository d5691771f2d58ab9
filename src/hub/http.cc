#include "hub/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <mutex>
#include <optional>

#include "base/text.h"

namespace lode::hub {
namespace {

constexpr int kRedirectsMax = 8;
constexpr size_t kErrorBodyBytesMax = 4096;
constexpr size_t kHeaderBytesMax = 256 << 10;

struct UrlDeleter {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using Url = std::unique_ptr<CURLU, UrlDeleter>;

Url ParseUrl(const std::string& text) {
  Url url(curl_url());
  if (url == nullptr || curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK) {
    return nullptr;
  }
  return url;
}

std::string Part(const Url& url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (url == nullptr || curl_url_get(url.get(), part, &text, flags) != CURLUE_OK) return "";
  std::string copy = text;
  curl_free(text);
  return copy;
}

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
  });
  return text;
}

bool IsLoopback(const std::string& url) {
  const std::string host = Lower(Part(ParseUrl(url), CURLUPART_HOST));
  if (host == "localhost" || host == "[::1]") return true;
  if (!StartsWith(host, "127.")) return false;
  return host.find_first_not_of("0123456789.") == std::string::npos;  // not 127.example.com
}

std::string_view TrimSpace(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

}  // namespace

struct HttpSession::Impl {
  CURL* curl = nullptr;
  HttpLimits limits;
  std::function<bool()> stop;

  // Of the request in progress.
  const HttpRequest* request = nullptr;
  HttpResponse response;
  size_t header_bytes = 0;
  bool headers_told = false;
  std::optional<Error> callback_error;

  ~Impl() {
    if (curl != nullptr) curl_easy_cleanup(curl);
  }

  // Tells the caller about the answer once, before its body or at its end.
  bool TellHeaders() {
    if (headers_told) return true;
    headers_told = true;
    if (!request->on_headers || (request->follow && IsRedirect(response.status))) return true;
    Result<void> told = request->on_headers(response);
    if (!told.ok()) callback_error = std::move(told).error();
    return !callback_error.has_value();
  }

  static size_t OnHeader(char* data, size_t size, size_t count, void* user) {
    auto* self = static_cast<Impl*>(user);
    const std::string_view line = TrimSpace(std::string_view(data, size * count));
    self->header_bytes += size * count;
    if (self->header_bytes > kHeaderBytesMax) return 0;
    if (StartsWith(line, "HTTP/")) {  // also after a "100 Continue"
      self->response.headers.clear();
      return size * count;
    }
    const size_t colon = line.find(':');
    if (colon != std::string_view::npos) {
      self->response.headers[Lower(std::string(line.substr(0, colon)))] =
          std::string(TrimSpace(line.substr(colon + 1)));
    }
    return size * count;
  }

  static size_t OnBody(char* data, size_t size, size_t count, void* user) {
    auto* self = static_cast<Impl*>(user);
    const size_t bytes = size * count;
    self->ReadStatus();
    if (!self->TellHeaders()) return 0;
    const int status = self->response.status;
    if (status < 200 || status > 299) {
      std::string& body = self->response.body;
      body.append(data,
                  std::min(bytes, kErrorBodyBytesMax - std::min(kErrorBodyBytesMax, body.size())));
      return bytes;
    }
    if (!self->request->on_body) return bytes;
    Result<void> taken = self->request->on_body(std::string_view(data, bytes));
    if (!taken.ok()) {
      self->callback_error = std::move(taken).error();
      return 0;
    }
    return bytes;
  }

  static int OnProgress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    auto* self = static_cast<Impl*>(user);
    return self->stop && self->stop() ? 1 : 0;
  }

  void ReadStatus() {
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    response.status = static_cast<int>(status);
  }

  // One request without redirects.
  Result<void> SendOnce(const std::string& url, bool with_token) {
    response = HttpResponse();
    response.url = url;
    header_bytes = 0;
    headers_told = false;
    callback_error.reset();

    curl_easy_reset(curl);  // keeps the connections
    curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "lode/0.1");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, static_cast<long>(limits.connect_timeout_s));
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, static_cast<long>(limits.stall_timeout_s));
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, OnHeader);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, this);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, OnBody);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, this);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, OnProgress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, this);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 256L << 10);
    if (IsLoopback(url)) curl_easy_setopt(curl, CURLOPT_PROXY, "");  // never through a proxy
    if (request->head) curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    const std::string range = Format("%lld-%lld", static_cast<long long>(request->range_first),
                                     static_cast<long long>(request->range_last));
    if (request->range_first >= 0) curl_easy_setopt(curl, CURLOPT_RANGE, range.c_str());
    curl_slist* headers = nullptr;
    if (with_token) {
      headers = curl_slist_append(headers, ("Authorization: Bearer " + request->token).c_str());
      curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    }
    const CURLcode code = curl_easy_perform(curl);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, nullptr);
    curl_slist_free_all(headers);
    ReadStatus();
    if (callback_error.has_value()) return *std::move(callback_error);
    if (code != CURLE_OK) return TransportError(code, url);
    curl_off_t retry_after = 0;
    curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &retry_after);
    response.retry_after_s = retry_after;
    if (!TellHeaders()) return *std::move(callback_error);
    return {};
  }

  Error TransportError(CURLcode code, const std::string& url) {
    const std::string sentence = UrlForPeople(url) + ": " + curl_easy_strerror(code);
    switch (code) {
      case CURLE_ABORTED_BY_CALLBACK:
        return Error(Code::kCancelled, "stopped");
      case CURLE_COULDNT_RESOLVE_HOST:
      case CURLE_COULDNT_RESOLVE_PROXY:
        return Error(Code::kNetwork, sentence, "check the network connection and the address");
      case CURLE_COULDNT_CONNECT:
        return Error(Code::kNetwork, sentence,
                     "check the network connection, the address and any proxy");
      case CURLE_PEER_FAILED_VERIFICATION:
      case CURLE_SSL_CACERT_BADFILE:
      case CURLE_SSL_ISSUER_ERROR:
        return Error(
            Code::kBadInput, sentence,
            "install the package ca-certificates, or name the certificates of your network "
            "in SSL_CERT_FILE");
      case CURLE_UNSUPPORTED_PROTOCOL:
      case CURLE_URL_MALFORMAT:
        return Error(Code::kBadInput, sentence, "check the address");
      default:
        return Error(Code::kNetwork, sentence);
    }
  }
};

HttpSession::HttpSession(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpSession::~HttpSession() = default;

Result<std::unique_ptr<HttpSession>> HttpSession::Create(const HttpLimits& limits,
                                                         std::function<bool()> stop) {
  // libcurl's own set-up, once per process as it demands.
  static std::once_flag once;
  static CURLcode started = CURLE_OK;
  std::call_once(once, [] { started = curl_global_init(CURL_GLOBAL_DEFAULT); });
  auto impl = std::make_unique<Impl>();
  impl->curl = started == CURLE_OK ? curl_easy_init() : nullptr;
  if (impl->curl == nullptr) return Error(Code::kInternal, "the HTTP library does not start");
  impl->limits = limits;
  impl->stop = std::move(stop);
  return std::unique_ptr<HttpSession>(new HttpSession(std::move(impl)));
}

Result<HttpResponse> HttpSession::Send(const HttpRequest& request) {
  impl_->request = &request;
  const std::string home = OriginOf(request.url);
  if (home.empty()) {
    return Error(Code::kBadInput, Quote(request.url) + " is not an http or https address");
  }
  std::string url = request.url;
  for (int hop = 0; hop <= kRedirectsMax; ++hop) {
    const bool with_token = !request.token.empty() && OriginOf(url) == home && TokenMayTravel(url);
    LODE_TRY(impl_->SendOnce(url, with_token));
    const std::string location = impl_->response.Header("location");
    if (!request.follow || !IsRedirect(impl_->response.status) || location.empty()) {
      return std::move(impl_->response);
    }
    const Url next = ParseUrl(url);
    if (next == nullptr ||
        curl_url_set(next.get(), CURLUPART_URL, location.c_str(), 0) != CURLUE_OK) {
      return Error(Code::kBadInput,
                   UrlForPeople(url) + " redirects to an address that is not valid");
    }
    const std::string target = Part(next, CURLUPART_URL);
    if (OriginOf(target).empty() ||
        (StartsWith(home, "https:") && !StartsWith(OriginOf(target), "https:"))) {
      return Error(Code::kBadInput, UrlForPeople(url) + " redirects away from https",
                   "check the address of the hub");
    }
    url = target;
  }
  return Error(Code::kBadInput, UrlForPeople(request.url) + " redirects without end");
}

bool TokenMayTravel(const std::string& url) {
  return StartsWith(OriginOf(url), "https:") || IsLoopback(url);
}

std::string OriginOf(const std::string& url) {
  const Url parsed = ParseUrl(url);
  const std::string scheme = Lower(Part(parsed, CURLUPART_SCHEME));
  if (scheme != "http" && scheme != "https") return "";
  return scheme + "://" + Lower(Part(parsed, CURLUPART_HOST)) + ":" +
         Part(parsed, CURLUPART_PORT, CURLU_DEFAULT_PORT);
}

std::string UrlEscape(std::string_view text, bool keep_slashes) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.' || c == '~' || (keep_slashes && c == '/');
    out += plain ? std::string(1, c) : Format("%%%02X", static_cast<unsigned char>(c));
  }
  return out;
}

std::string UrlForPeople(const std::string& url) {
  const Url parsed = ParseUrl(url);
  if (parsed == nullptr) return Quote(url);
  const std::string port = Part(parsed, CURLUPART_PORT);
  return Part(parsed, CURLUPART_HOST) + (port.empty() ? "" : ":" + port) +
         Part(parsed, CURLUPART_PATH);
}

}  // namespace lode::hub
