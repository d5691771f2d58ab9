// The source of a model whose weights are elsewhere: a config, and no tensors. Threads: const.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "tensor/source.h"

namespace lode::train {

class ConfigSource : public tensor::TensorSource {
 public:
  // `path`: what errors call it.
  ConfigSource(std::string path, Json config)
      : path_(std::move(path)), config_(std::move(config)) {}
  tensor::Naming naming() const override { return tensor::Naming::kHuggingFace; }
  const std::string& path() const override { return path_; }
  const Json& config() const override { return config_; }
  const std::vector<tensor::TensorInfo>& tensors() const override { return tensors_; }
  const tensor::TensorInfo* Find(std::string_view) const override { return nullptr; }
  tensor::TensorView View(const tensor::TensorInfo& info) const override {
    return {info.dtype, info.shape, {}};
  }
  std::string WhyAbsent(std::string_view) const override { return ""; }

 private:
  std::string path_;
  Json config_;
  std::vector<tensor::TensorInfo> tensors_;
};

}  // namespace lode::train
