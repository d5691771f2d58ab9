// Responses that were asked to be kept, in memory alone: for previous_response_id and for who looks
// at them again. Bounded in bytes and in time; nobody sees what belongs to another tenant.
#pragma once

#include <chrono>
#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"

namespace lode::serve {

struct ResponseStoreLimits {
  size_t bytes_max = size_t{64} << 20;
  std::chrono::seconds idle_max{3600};  // since it was last used
};

struct KeptResponse {
  std::string previous;  // the turn before; empty: none
  std::string items;     // of its own input, as JSON
  std::string response;  // as it was sent
  std::vector<std::string> item_ids;  // of its output
};

// Over the bound the tenant that holds most loses what it has not used for longest.
// Threads: free for all.
class ResponseStore {
 public:
  using Clock = std::chrono::steady_clock;

  explicit ResponseStore(ResponseStoreLimits limits = {}) : limits_(limits) {}

  // False: it is larger than all that may be kept.
  bool Keep(const std::string& tenant, const std::string& id, KeptResponse kept,
            Clock::time_point now = Clock::now());
  // As it was sent; null: there is none.
  std::shared_ptr<const KeptResponse> Find(const std::string& tenant, const std::string& id,
                                           Clock::time_point now = Clock::now());
  // The items of all turns up to this one, in order, with its output or without. None: it is not
  // here, or one before it is not.
  std::optional<Json> Items(const std::string& tenant, const std::string& id, bool output,
                            Clock::time_point now = Clock::now());
  // An item of some response's output.
  std::optional<Json> Item(const std::string& tenant, const std::string& item_id,
                           Clock::time_point now = Clock::now());
  bool Forget(const std::string& tenant, const std::string& id);
  void Expire(Clock::time_point now = Clock::now());
  size_t bytes() const;

 private:
  using Key = std::pair<std::string, std::string>;  // tenant, id
  struct Entry {
    Key key;
    std::shared_ptr<const KeptResponse> kept;
    size_t bytes = 0;
    Clock::time_point used;
  };
  using Place = std::list<Entry>::iterator;

  std::shared_ptr<const KeptResponse> Use(const Key& key, Clock::time_point now);
  void Drop(Place place);
  void Shrink();
  void DropOld(Clock::time_point now);

  const ResponseStoreLimits limits_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // the newest used first
  std::map<Key, Place> places_;
  std::map<Key, std::string> owners_;  // tenant, item -> response
  std::map<std::string, size_t> tenants_;  // bytes of each
  size_t bytes_ = 0;
};

}  // namespace lode::serve
