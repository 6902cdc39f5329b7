from azure.servicebus import ServiceBusClient, ServiceBusMessage

CONNECTION = ("Endpoint=sb://localhost;SharedAccessKeyName=RootManageSharedAccessKey;"
              "SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;")

with ServiceBusClient.from_connection_string(CONNECTION) as client:
    with client.get_topic_sender("shop") as sender:
        for text in ("order 1", "broken order"):
            sender.send_messages(ServiceBusMessage(
                text, subject="order.paid", message_id=text, application_properties={"table": 7}))

    with client.get_subscription_receiver("shop", "shipping", max_wait_time=2) as receiver:
        for message in receiver:
            if str(message).startswith("broken"):
                receiver.dead_letter_message(message, reason="cannot be shipped")
                continue
            print("shipped", message)
            receiver.complete_message(message)

    with client.get_subscription_receiver("shop", "shipping", sub_queue="deadletter") as receiver:
        message = receiver.receive_messages(1, max_wait_time=5)[0]
        print("in the dead-letter queue:", message)
        receiver.complete_message(message)
