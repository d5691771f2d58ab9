// A hub for tests: an HTTP server on 127.0.0.1 that speaks as much of the Hugging Face API as a
// pull needs, and can be told to misbehave. Plain sockets, a thread per connection; it keeps a log
// of requests so that tests can see what was asked, and with which headers.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace lode::hub::testing {

struct HubFile {
  std::string content;
  bool lfs = false;          // listed with a SHA-256, and served by a redirect if there is one
  uint64_t listed_size = 0;  // 0: the true one
  std::string listed_hash;   // empty: the true one
};

struct Request {
  std::string method;
  std::string target;
  std::map<std::string, std::string> headers;  // lower-case names
};

class LoopbackHub {
 public:
  LoopbackHub();
  ~LoopbackHub();

  // Set before the first request; guarded by nothing.
  std::string model = "acme/tiny";
  std::string sha = "0123456789abcdef0123456789abcdef01234567";
  std::map<std::string, HubFile> files;
  bool list_sizes = true;          // false: the list has names only, HEAD must be asked
  std::string token;               // wanted for everything, if set
  int refuse_status = 401;         // ... else this
  std::string error_code;          // sent as X-Error-Code with refusals
  LoopbackHub* storage = nullptr;  // lfs files redirect to this server
  bool ranges = true;
  std::string list_body;  // sent instead of the list

  // Faults, counted down as they happen.
  std::atomic<int> fail_times = 0;  // requests for files answered with fail_status
  int fail_status = 503;
  std::string retry_after;
  std::atomic<int> drop_times = 0;    // file bodies cut off ...
  uint64_t drop_after_bytes = 0;      // ... after so many bytes
  std::atomic<int> flip_times = 0;    // file bodies with a wrong byte
  std::atomic<int> stall_times = 0;   // file requests that are accepted and never answered
  std::atomic<int> bytes_per_ms = 0;  // 0: as fast as it goes

  std::string endpoint() const;
  std::vector<Request> requests() const;
  uint64_t body_bytes_sent() const { return body_bytes_sent_; }

 private:
  void Serve();
  void Answer(int socket);
  bool AnswerOne(int socket, std::string* unread);
  bool SendAll(int socket, std::string_view bytes);
  bool SendFile(int socket, const Request& request, const HubFile& file);
  std::string List() const;

  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stop_ = false;
  std::atomic<uint64_t> body_bytes_sent_ = 0;
  std::thread acceptor_;
  mutable std::mutex mutex_;
  std::vector<Request> requests_;
  std::vector<std::thread> answerers_;
};

std::string Sha256Hex(const std::string& content);
std::string GitBlobHex(const std::string& content);

}  // namespace lode::hub::testing
