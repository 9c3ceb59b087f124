"""The questions by which recognisers are tuned; {KIND} stands for a value."""

GERMAN = r"""
Guten Tag, mein Name ist {PERSON} und ich möchte meine Adresse ändern: {ADDRESS}.
Bitte überweisen Sie 250,00 € von meinem Konto {IBAN} an {PERSON}.
Ich habe am 12.03.2024 eine Überweisung an die IBAN {IBAN} gemacht, sie ist nicht angekommen. Woran liegt das?
Meine Kreditkarte {CREDIT_CARD} wurde gesperrt, warum?
Hallo, ich bin {PERSON}, geboren am {DATE_OF_BIRTH}, und brauche einen Termin in der Kardiologie.
Meine Steuer-ID ist {TAX_ID}. Warum steht sie nicht auf dem Bescheid?
Können Sie mich unter {PHONE} zurückrufen? Danke, {PERSON}
Sehr geehrte Damen und Herren,\nmein Vater, {PERSON}, liegt auf Station 4. Wann sind Besuchszeiten?\nMit freundlichen Grüßen\n{PERSON}
Ich möchte Herrn {LAST} eine Vollmacht für mein Konto geben, geht das online?
Frau {LAST} vom Bürgeramt sagte, ich soll die Steuernummer {TAX_NUMBER} angeben.
meine rentenversicherungsnummer lautet {PENSION_INSURANCE}, wo trage ich die ein?
Die Versichertennummer {HEALTH_INSURANCE} wird im Portal nicht angenommen.
Schreiben Sie mir bitte an {EMAIL}, ich bin im Urlaub.
Was kostet ein neuer Personalausweis, wenn ich in {ADDRESS} gemeldet bin?
Warum hat {PERSON} Zugriff auf mein Depot?
Ich ziehe am 1. Mai um, von {ADDRESS} nach {ADDRESS}. Bis wann muss ich mich ummelden?
Kundennummer {ACCOUNT}: bitte kündigen Sie den Vertrag zum 31.12.2025.
Wie beantrage ich Elterngeld für mein Kind {FIRST}, geb. {DATE_OF_BIRTH}?
Mein Mann {PERSON} und ich wollen ein gemeinsames Konto, geht das ohne Termin?
Kann ich für {PERSON} ein Rezept abholen?
hab gestern mit {PERSON} telefoniert, tel {PHONE}, bitte um info
Die Rechnung über 1.234,56 Euro ging an {EMAIL} statt an mich.
Für die Bafög-Auszahlung: {IBAN}, Kontoinhaber {PERSON}.
Wann hat das Rathaus geöffnet, und brauche ich für den Sperrmüll einen Termin?
Wie hoch sind die Zinsen für ein Tagesgeldkonto mit 10.000 Euro?
Welche Unterlagen brauche ich für die Anmeldung einer Hochzeit im Standesamt?
Muss ich vor der Blutabnahme nüchtern sein, und wie lange dauert sie?
{PERSON}, {ADDRESS}, Tel. {PHONE}
Lieber Herr Dr. {LAST}, die Tabletten helfen nicht, kann ich morgen um 10 Uhr vorbeikommen?
Bitte den Termin von {PERSON} auf {FIRST} umschreiben.
Auf dem Beleg steht {CREDIT_CARD}€, das ist doch meine Kartennummer.
Im Feld Betrag stand versehentlich € {PHONE}, das ist meine Nummer.
Abgebucht wurde von {IBAN} 250,00 €, wer war das?
Ich habe mich vertippt: {TAX_ID} Euro ist keine Summe.
Zu erstatten: 12,50 € {IBAN}
Wieso steht da {CREDIT_CARD} EUR 49,90, und wer ist {PERSON}?
""".strip().split("\n")
ENGLISH = r"""
Hi, my name is {PERSON} and I would like to change my address to {ADDRESS}.
Why was my card {CREDIT_CARD} declined at the supermarket yesterday?
Please call me back at {PHONE} about my mortgage.
I'm {PERSON}, born on {DATE_OF_BIRTH}, and I need an appointment with a cardiologist.
My SSN is {US_TAX_ID}, is that enough to open an account?
Could you send the lab results to {EMAIL}? Thanks, {PERSON}
I sent $250.00 to {IBAN} on March 3, it hasn't arrived.
Mr. {LAST} from your branch told me to ask here about the loan.
My daughter {FIRST} needs a passport, her date of birth is {DATE_OF_BIRTH}.
Please add {PERSON} to my account as a second holder.
We moved from {ADDRESS} last month. Which form do I need?
What are the opening hours of the city hall on Friday?
How much does a parking permit cost for 12 months?
Account number {ACCOUNT} shows a fee of 12.50 that I don't understand.
Dr. {LAST} prescribed new tablets, can I pick them up today?
Is the invoice for {PERSON} paid?
my husband {PERSON} lost his card, his number is {PHONE}
I was told that {PERSON} closed my case. Why?
Do I need to fast before the blood test, and how long does it take?
Kind regards,\n{PERSON}\n{ADDRESS}\n{PHONE}
Can a friend, {PERSON}, collect my prescription?
My German tax ID is {TAX_ID}, where do I enter it?
The receipt says {CREDIT_CARD}$, but that is my card.
I typed £ {IBAN} into the wrong field, can you undo that?
Was {CREDIT_CARD} 49.90 USD charged twice?
The amount field shows $ {CREDIT_CARD}, is that safe?
""".strip().split("\n")
