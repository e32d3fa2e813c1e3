#include "runtime/rpc/console_service.hpp"

namespace varve {

kj::Promise<void> console_service::tree(TreeContext context) {
  auto params = context.getParams();
  return serve<std::vector<actor_row>>(
    context,
    [this, path = std::string{params.getPath()}, children = params.getChildrenMax()](auto done) {
      to_->tree(path, children, std::move(done));
    },
    [](auto results, const std::vector<actor_row>& x) {
      list_to_wire<wire::ActorRow>(results.initActors(static_cast<unsigned>(x.size())), x);
    });
}

kj::Promise<void> console_service::inspect(InspectContext context) {
  return serve<actor_inspection>(
    context,
    [this, path = std::string{context.getParams().getPath()}](auto done) { to_->inspect(path, std::move(done)); },
    [](auto results, const actor_inspection& x) {
      to_wire(results.initActor(), x.row);
      list_to_wire<wire::Fact>(results.initFacts(static_cast<unsigned>(x.facts.size())), x.facts);
    });
}

kj::Promise<void> console_service::messages(MessagesContext context) {
  return serve<std::vector<actor_message>>(
    context,
    [this, path = std::string{context.getParams().getPath()}](auto done) { to_->messages(path, std::move(done)); },
    [](auto results, const std::vector<actor_message>& x) {
      list_to_wire<wire::ActorMessage>(results.initMessages(static_cast<unsigned>(x.size())), x);
    });
}

kj::Promise<void> console_writer_service::send(SendContext context) {
  auto params = context.getParams();
  return serve_change<actor_facts>(
    *rights_, context,
    [this, path = std::string{params.getPath()}, message = std::string{params.getMessage()},
     arguments = list_from_wire<wire::Argument>(params.getArguments())](auto done) {
      to_->send(path, message, arguments, rights_->peer, std::move(done));
    },
    [](auto results, const actor_facts& x) {
      list_to_wire<wire::Fact>(results.initAnswer(static_cast<unsigned>(x.size())), x);
    });
}

kj::Promise<void> console_writer_service::kill(KillContext context) {
  return serve_change<nothing>(
    *rights_, context,
    [this, path = std::string{context.getParams().getPath()}](auto done) {
      to_->kill(path, rights_->peer, std::move(done));
    },
    fill_nothing);
}

} // namespace varve
