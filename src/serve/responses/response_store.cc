#include "serve/responses/response_store.h"

#include <algorithm>
#include <utility>

namespace lode::serve {
namespace {

constexpr size_t kEntryBytes = 512;  // of an entry itself, about
constexpr size_t kItemBytes = 128;

void Append(const Json& items, Json* all) {
  for (const Json& item : items) all->push_back(item);
}

}  // namespace

bool ResponseStore::Keep(const std::string& tenant, const std::string& id, KeptResponse kept,
                         Clock::time_point now) {
  const size_t bytes = kEntryBytes + kept.items.size() + kept.response.size() +
                       kItemBytes * kept.item_ids.size();
  if (bytes > limits_.bytes_max) return false;
  const std::lock_guard lock(mutex_);
  DropOld(now);
  const Key key = {tenant, id};
  if (const auto found = places_.find(key); found != places_.end()) Drop(found->second);
  for (const std::string& item : kept.item_ids) owners_[{tenant, item}] = id;
  entries_.push_front(
      {key, std::make_shared<const KeptResponse>(std::move(kept)), bytes, now});
  places_[key] = entries_.begin();
  bytes_ += bytes;
  tenants_[tenant] += bytes;
  Shrink();
  return true;
}

void ResponseStore::Drop(Place place) {
  const std::string& tenant = place->key.first;
  for (const std::string& item : place->kept->item_ids) owners_.erase({tenant, item});
  bytes_ -= place->bytes;
  const auto held = tenants_.find(tenant);
  held->second -= place->bytes;
  if (held->second == 0) tenants_.erase(held);
  places_.erase(place->key);
  entries_.erase(place);
}

void ResponseStore::Shrink() {
  while (bytes_ > limits_.bytes_max && entries_.size() > 1) {
    const auto most = std::max_element(
        tenants_.begin(), tenants_.end(),
        [](const auto& one, const auto& other) { return one.second < other.second; });
    auto victim = std::prev(entries_.end());
    while (victim->key.first != most->first) --victim;
    Drop(victim);
  }
}

void ResponseStore::DropOld(Clock::time_point now) {
  while (!entries_.empty() && now - entries_.back().used > limits_.idle_max) {
    Drop(std::prev(entries_.end()));
  }
}

std::shared_ptr<const KeptResponse> ResponseStore::Use(const Key& key, Clock::time_point now) {
  const auto found = places_.find(key);
  if (found == places_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  found->second->used = now;
  return found->second->kept;
}

std::shared_ptr<const KeptResponse> ResponseStore::Find(const std::string& tenant,
                                                        const std::string& id,
                                                        Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  DropOld(now);
  return Use({tenant, id}, now);
}

std::optional<Json> ResponseStore::Items(const std::string& tenant, const std::string& id,
                                         bool output, Clock::time_point now) {
  std::vector<std::shared_ptr<const KeptResponse>> turns;  // the newest first
  {
    const std::lock_guard lock(mutex_);
    DropOld(now);
    std::string at = id;
    do {
      auto kept = Use({tenant, at}, now);
      if (kept == nullptr) return std::nullopt;
      at = kept->previous;
      turns.push_back(std::move(kept));
    } while (!at.empty());
  }
  Json all = Json::array();
  for (size_t i = turns.size(); i-- > 0;) {
    const auto items = ParseJson(turns[i]->items);
    if (!items.ok()) return std::nullopt;
    Append(*items, &all);
    if (i == 0 && !output) break;
    const auto response = ParseJson(turns[i]->response);
    if (!response.ok()) return std::nullopt;
    if (const Json* made = FindKey(*response, "output"); made != nullptr) Append(*made, &all);
  }
  return all;
}

std::optional<Json> ResponseStore::Item(const std::string& tenant, const std::string& item_id,
                                        Clock::time_point now) {
  std::shared_ptr<const KeptResponse> kept;
  {
    const std::lock_guard lock(mutex_);
    DropOld(now);
    const auto owner = owners_.find({tenant, item_id});
    if (owner != owners_.end()) kept = Use({tenant, owner->second}, now);
  }
  if (kept == nullptr) return std::nullopt;
  const auto response = ParseJson(kept->response);
  const Json* output = response.ok() ? FindKey(*response, "output") : nullptr;
  if (output == nullptr) return std::nullopt;
  for (const Json& item : *output) {
    if (GetString(item, "id") == item_id) return item;
  }
  return std::nullopt;
}

bool ResponseStore::Forget(const std::string& tenant, const std::string& id) {
  const std::lock_guard lock(mutex_);
  const auto found = places_.find({tenant, id});
  if (found == places_.end()) return false;
  Drop(found->second);
  return true;
}

void ResponseStore::Expire(Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  DropOld(now);
}

size_t ResponseStore::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace lode::serve
