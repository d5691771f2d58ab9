#include "tests/hub/loopback_hub.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "base/json.h"
#include "base/text.h"

namespace lode::hub::testing {
namespace {

std::string Digest(const EVP_MD* algorithm, const std::string& content) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int bytes = 0;
  EVP_Digest(content.data(), content.size(), digest, &bytes, algorithm, nullptr);
  std::string hex;
  for (unsigned int i = 0; i < bytes; ++i) hex += Format("%02x", digest[i]);
  return hex;
}

std::string Reply(int status, const std::string& headers, const std::string& body) {
  return Format("HTTP/1.1 %d Status\r\nContent-Length: %zu\r\n", status, body.size()) + headers +
         "\r\n" + body;
}

}  // namespace

std::string Sha256Hex(const std::string& content) { return Digest(EVP_sha256(), content); }
std::string GitBlobHex(const std::string& content) {
  return Digest(EVP_sha1(), "blob " + std::to_string(content.size()) + '\0' + content);
}

LoopbackHub::LoopbackHub() {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      ::listen(listener_, 64) != 0 ||
      ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    std::abort();  // a test without its server tests nothing
  }
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { Serve(); });
}

LoopbackHub::~LoopbackHub() {
  stop_ = true;
  acceptor_.join();
  for (std::thread& thread : answerers_) thread.join();
  ::close(listener_);
}

std::string LoopbackHub::endpoint() const { return Format("http://127.0.0.1:%d", port_); }

std::vector<Request> LoopbackHub::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void LoopbackHub::Serve() {
  while (!stop_) {
    pollfd waiting = {listener_, POLLIN, 0};
    if (::poll(&waiting, 1, 20) <= 0) continue;
    const int socket = ::accept(listener_, nullptr, nullptr);
    if (socket >= 0) answerers_.emplace_back([this, socket] { Answer(socket); });
  }
}

void LoopbackHub::Answer(int socket) {
  std::string unread;
  while (!stop_ && AnswerOne(socket, &unread)) {
  }
  ::shutdown(socket, SHUT_RDWR);
  ::close(socket);
}

bool LoopbackHub::SendAll(int socket, std::string_view bytes) {
  while (!bytes.empty() && !stop_) {
    pollfd ready = {socket, POLLOUT, 0};
    if (::poll(&ready, 1, 20) == 0) continue;
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) return errno == EAGAIN;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return bytes.empty();
}

bool LoopbackHub::AnswerOne(int socket, std::string* unread) {
  size_t end;
  while ((end = unread->find("\r\n\r\n")) == std::string::npos) {
    pollfd ready = {socket, POLLIN, 0};
    if (stop_) return false;
    if (::poll(&ready, 1, 20) == 0) continue;
    char buffer[8192];
    const ssize_t bytes = ::recv(socket, buffer, sizeof(buffer), 0);
    if (bytes <= 0) return false;
    unread->append(buffer, static_cast<size_t>(bytes));
  }
  const std::vector<std::string> lines = Split(unread->substr(0, end), '\n');
  unread->erase(0, end + 4);
  Request request;
  const std::vector<std::string> first = Split(lines[0], ' ');
  request.method = first[0];
  request.target = first.size() > 1 ? first[1] : "";
  for (size_t i = 1; i < lines.size(); ++i) {
    const size_t colon = lines[i].find(':');
    std::string name = lines[i].substr(0, colon);
    std::transform(name.begin(), name.end(), name.begin(), ::tolower);
    std::string value = colon == std::string::npos ? "" : lines[i].substr(colon + 1);
    while (!value.empty() && value.front() == ' ') value.erase(0, 1);
    while (!value.empty() && value.back() == '\r') value.pop_back();
    request.headers[name] = value;
  }
  {
    const std::lock_guard lock(mutex_);
    requests_.push_back(request);
  }
  if (!token.empty() && request.headers["authorization"] != "Bearer " + token) {
    return SendAll(socket, Reply(refuse_status,
                                 error_code.empty() ? "" : "X-Error-Code: " + error_code + "\r\n",
                                 "{\"error\":\"no\"}"));
  }
  if (StartsWith(request.target, "/api/models/" + model + "/revision/")) {
    return SendAll(socket, Reply(200, "Content-Type: application/json\r\n",
                                 list_body.empty() ? List() : list_body));
  }
  const std::string resolve = "/" + model + "/resolve/" + sha + "/";
  const std::string stored = "/stored/";
  for (const auto& [name, file] : files) {
    if (request.target == resolve + name && storage != nullptr && file.lfs) {
      return SendAll(socket, Reply(302,
                                   "Location: " + storage->endpoint() + stored + name +
                                       "?signature=secret\r\n" + "X-Linked-Size: " +
                                       std::to_string(file.content.size()) + "\r\n" +
                                       "X-Linked-Etag: \"" + Sha256Hex(file.content) + "\"\r\n",
                                   ""));
    }
    if (request.target == resolve + name || StartsWith(request.target, stored + name + "?")) {
      return SendFile(socket, request, file);
    }
  }
  return SendAll(
      socket,
      Reply(404, "X-Error-Code: " + (error_code.empty() ? "EntryNotFound" : error_code) + "\r\n",
            ""));
}

bool LoopbackHub::SendFile(int socket, const Request& request, const HubFile& file) {
  if (stall_times > 0) {
    --stall_times;
    while (!stop_) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return false;
  }
  if (fail_times > 0 && request.method == "GET") {
    --fail_times;
    return SendAll(socket,
                   Reply(fail_status,
                         retry_after.empty() ? "" : "Retry-After: " + retry_after + "\r\n", "no"));
  }
  std::string body = file.content;
  std::string head = Format("HTTP/1.1 200 OK\r\n");
  const auto range = request.headers.find("range");
  if (ranges && range != request.headers.end()) {
    unsigned long long begin = 0;
    unsigned long long end = 0;
    std::sscanf(range->second.c_str(), "bytes=%llu-%llu", &begin, &end);
    if (begin >= body.size()) return SendAll(socket, Reply(416, "", ""));
    end = std::min<unsigned long long>(end, body.size() - 1);
    head = Format("HTTP/1.1 206 Partial\r\nContent-Range: bytes %llu-%llu/%zu\r\n", begin, end,
                  body.size());
    body = body.substr(begin, end - begin + 1);
  }
  head += Format("Content-Length: %zu\r\nETag: \"%s\"\r\n\r\n", body.size(),
                 (file.lfs ? Sha256Hex(file.content) : GitBlobHex(file.content)).c_str());
  if (!SendAll(socket, head) || request.method == "HEAD") return request.method == "HEAD";
  if (flip_times > 0 && !body.empty()) {
    --flip_times;
    body[body.size() / 2] = static_cast<char>(body[body.size() / 2] ^ 1);
  }
  bool drop = false;
  if (drop_times > 0 && body.size() > drop_after_bytes) {
    --drop_times;
    body.resize(drop_after_bytes);
    drop = true;
  }
  std::string_view rest = body;
  while (!rest.empty() && !stop_) {
    const std::string_view piece = rest.substr(0, bytes_per_ms > 0 ? bytes_per_ms * 5 : 65536);
    if (!SendAll(socket, piece)) return false;
    body_bytes_sent_ += piece.size();
    rest.remove_prefix(piece.size());
    if (bytes_per_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return !drop;
}

std::string LoopbackHub::List() const {
  Json list = {{"id", model}, {"sha", sha}, {"siblings", Json::array()}};
  for (const auto& [name, file] : files) {
    Json entry = {{"rfilename", name}};
    const uint64_t size = file.listed_size > 0 ? file.listed_size : file.content.size();
    if (list_sizes) {
      entry["size"] = size;
      entry["blobId"] = GitBlobHex(file.lfs ? "pointer" : file.content);
      if (!file.lfs && !file.listed_hash.empty()) entry["blobId"] = file.listed_hash;
      if (file.lfs) {
        entry["lfs"] = {
            {"sha256", file.listed_hash.empty() ? Sha256Hex(file.content) : file.listed_hash},
            {"size", size},
            {"pointerSize", 135}};
      }
    }
    list["siblings"].push_back(entry);
  }
  return DumpJson(list);
}

}  // namespace lode::hub::testing
