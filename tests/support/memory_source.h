// A TensorSource that a test makes up: a config, and tensors if it wants some.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "tensor/source.h"

namespace lode::testing {

class MemorySource final : public tensor::TensorSource {
 public:
  explicit MemorySource(Json config, tensor::Naming naming = tensor::Naming::kHuggingFace)
      : naming_(naming), config_(std::move(config)) {}

  // Zeros, unless `bytes` says otherwise.
  void Add(const std::string& name, tensor::DType dtype, const tensor::Shape& shape,
           std::string bytes = "") {
    tensor::TensorInfo info;
    info.name = name;
    info.dtype = dtype;
    info.shape = shape;
    info.file = "memory";
    tensor::CountBytes(dtype, shape, &info.bytes);
    bytes.resize(info.bytes, '\0');
    bytes_.push_back(std::move(bytes));
    tensors_.push_back(std::move(info));
  }
  void Remove(std::string_view name) {
    const size_t i = IndexOf(name);
    if (i == tensors_.size()) return;
    tensors_.erase(tensors_.begin() + static_cast<std::ptrdiff_t>(i));
    bytes_.erase(bytes_.begin() + static_cast<std::ptrdiff_t>(i));
  }

  tensor::Naming naming() const override { return naming_; }
  const std::string& path() const override { return path_; }
  const Json& config() const override { return config_; }
  Json& config() { return config_; }
  const std::vector<tensor::TensorInfo>& tensors() const override { return tensors_; }
  const tensor::TensorInfo* Find(std::string_view name) const override {
    const size_t i = IndexOf(name);
    return i < tensors_.size() ? &tensors_[i] : nullptr;
  }
  tensor::TensorView View(const tensor::TensorInfo& info) const override {
    const std::string& bytes = bytes_[IndexOf(info.name)];
    return {info.dtype, info.shape, std::as_bytes(std::span(bytes.data(), bytes.size()))};
  }
  std::string WhyAbsent(std::string_view name) const override {
    return name == unreadable ? "has the dtype 'F6_E2M3', which Lode does not read" : "";
  }

  std::string unreadable;  // the name of a tensor that is there and cannot be given

 private:
  size_t IndexOf(std::string_view name) const {
    size_t i = 0;
    while (i < tensors_.size() && tensors_[i].name != name) ++i;
    return i;
  }

  tensor::Naming naming_;
  std::string path_ = "model";
  Json config_;
  std::vector<tensor::TensorInfo> tensors_;
  std::deque<std::string> bytes_;
};

}  // namespace lode::testing
