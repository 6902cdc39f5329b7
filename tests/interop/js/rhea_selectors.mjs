// rhea with selectors, which its own filter puts on a link, and with links that only look.

import rhea from "rhea";

import { expect } from "./harness.mjs";
import { connected, expectEmpty, openReceiver } from "./rhea_client.mjs";
import { close, refused, sendAll } from "./rhea_features.mjs";

const BIG_RED = "colour = 'red' AND size BETWEEN 2 AND 9";

const selecting = (address, text) => ({ source: { address, filter: rhea.filter.selector(text) } });

const coloured = (body, colour, size) => ({ body, application_properties: { colour, size } });

const browsing = (address, filter) => ({
  source: { address, filter, distribution_mode: "copy" },
  snd_settle_mode: 1,
});

export const selectors = {
  browse: (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("browse");
      const messages = [["a", "red", 1], ["b", "blue", 5], ["c", "red", 9]];
      await sendAll(connection, queue, ...messages.map((message) => coloured(...message)));
      const holder = await openReceiver(connection, queue);
      const held = await holder.one();
      const browser = await openReceiver(connection, queue, browsing(queue));
      for (const wanted of ["a", "b", "c"]) {
        const { message, delivery } = await browser.one();
        expect([message.body, delivery.remote_settled], [wanted, true], "seen");
      }
      await sendAll(connection, queue, coloured("d", "red", 3));
      expect((await browser.one()).message.body, "d", "seen when it came");
      await close(browser);
      const filter = rhea.filter.selector("colour = 'red'");
      const reds = await openReceiver(connection, queue, browsing(queue, filter));
      for (const wanted of ["a", "c", "d"]) {
        expect((await reds.one()).message.body, wanted, "seen of a colour");
      }
      await close(reds);
      held.delivery.accept();
      for (const wanted of ["b", "c", "d"]) {
        const { message, delivery } = await holder.one();
        expect([message.body, message.delivery_count ?? 0], [wanted, 0], "what is left");
        delivery.accept();
      }
      await close(holder);
      await expectEmpty(connection, queue);
    }),
  selectors: (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("selectors");
      for (const text of ["colour = ", "size BETWEEN 1"]) {
        await refused("amqp:invalid-field", connection, selecting(queue, text));
      }
      const messages = [["a", "red", 1], ["b", "blue", 5], ["c", "red", 9], ["d", "green", 5]];
      await sendAll(connection, queue, ...messages.map((message) => coloured(...message)));
      const receiver = await openReceiver(connection, queue, selecting(queue, BIG_RED));
      expect(receiver.link.source.filter["jms-selector"].value, BIG_RED, "filter in place");
      const { message, delivery } = await receiver.one();
      expect(message.body, "c", "selected");
      delivery.modified({ delivery_failed: true });
      const again = await receiver.one();
      expect([again.message.body, again.message.delivery_count], ["c", 1], "selected again");
      again.delivery.accept();
      // The next to come is for the credit given now, and the others are not.
      receiver.link.add_credit(1);
      await sendAll(connection, queue, coloured("e", "blue", 3), coloured("f", "red", 3));
      const next = await receiver.take();
      expect(next.message.body, "f", "selected when it came");
      next.delivery.accept();
      await close(receiver);
      const rest = await openReceiver(connection, queue);
      for (const wanted of ["a", "b", "d", "e"]) {
        const { message, delivery } = await rest.one();
        expect([message.body, message.delivery_count ?? 0], [wanted, 0], "what is left");
        delivery.accept();
      }
      await close(rest);
      await expectEmpty(connection, queue);
    }),
};
