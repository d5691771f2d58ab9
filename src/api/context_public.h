// From what the runtime says to what include/lode/context.h says.
#pragma once

#include <lode/context.h>

#include <memory>

#include "base/result.h"
#include "runtime/saved/context_chain.h"
#include "runtime/scheduler.h"
#include "runtime/tree/prefix_tree.h"

namespace lode::api {

v1::Error Public(const Error& error);
v1::Stop Public(runtime::StopReason stop);
v1::Reuse Public(const runtime::Match& match);
v1::Digest Public(const runtime::ContextDigest& digest);
runtime::SamplingOptions Internal(const v1::Sampling& sampling);
// The tokens that `options` allows, which are in the vocabulary, and the request's stop ids.
std::shared_ptr<runtime::Constraint> AllowedOnly(const v1::GenerateOptions& options,
                                                 const runtime::Request& request,
                                                 int64_t vocabulary);

template <typename T>
v1::Result<T> Public(Result<T> result) {
  if (!result.ok()) return Public(result.error());
  return std::move(result).value();
}
inline v1::Status Public(const Result<void>& result) {
  if (!result.ok()) return Public(result.error());
  return v1::Done{};
}

}  // namespace lode::api
