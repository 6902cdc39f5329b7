from azure.servicebus import ServiceBusClient, ServiceBusMessage

CONNECTION = ("Endpoint=sb://localhost;SharedAccessKeyName=RootManageSharedAccessKey;"
              "SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;")

with ServiceBusClient.from_connection_string(CONNECTION) as client:
    client.get_queue_sender("orders").send_messages(ServiceBusMessage("two coffees"))
    with client.get_queue_receiver("orders") as receiver:
        message = receiver.receive_messages(max_wait_time=5)[0]
        print(message)
        receiver.complete_message(message)
