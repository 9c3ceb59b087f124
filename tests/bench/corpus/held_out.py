"""The questions by which recognisers are judged, written once and never looked at one by one; {KIND} as in tuning."""

GERMAN = r"""
Moin, hier schreibt {PERSON}. Seit gestern komme ich nicht mehr ins Onlinebanking, was tun?
Ich wollte Geld auf {IBAN} schicken und habe mich vertippt, kann man das zurückholen?
Auf der Abrechnung steht die Karte {CREDIT_CARD}, die gehört aber gar nicht mir.
Unsere Tochter {FIRST} kam am {DATE_OF_BIRTH} zur Welt, geboren im Klinikum. Wo gibt es die Urkunde?
Das Finanzamt will von mir die Steueridentifikationsnummer, ist {TAX_ID} richtig?
Falls etwas fehlt, erreichen Sie mich mobil: {PHONE}.
Gestern war {PERSON} bei Ihnen am Schalter und hat die falschen Papiere bekommen.
Kann statt mir auch {PERSON} den Reisepass abholen, wenn ich eine Vollmacht mitgebe?
Die Nebenkostenabrechnung schicken Sie bitte an {PERSON}, {ADDRESS}.
Ich bin umgezogen, neue Anschrift {ADDRESS}, muss mein Hund umgemeldet werden?
Für die Einkommensteuer habe ich {TAX_NUMBER} als Steuernummer bekommen, gilt die noch?
Sozialversicherungsnummer {PENSION_INSURANCE}, wie viele Jahre fehlen mir bis zur Rente?
Auf der Gesundheitskarte steht {HEALTH_INSURANCE}, der Automat liest sie nicht.
Antworten bitte nur per Mail an {EMAIL}, nicht per Post.
Herr {LAST} hat mir die Wohnung zum 1. Juli gekündigt, brauche ich einen Wohnberechtigungsschein?
Meine Hausärztin Frau Dr. {LAST} hat mich zur Mammografie überwiesen, was muss ich mitbringen?
Der Kollege {LAST} in Ihrer Filiale hat mir einen Zins von 3,25 % versprochen.
wie kann ich {PERSON} als begünstigten eintragen lassen
Bei der Überweisung vom 03.02. an {PERSON} über 89,90 € fehlt der Verwendungszweck.
Mitgliedsnummer {ACCOUNT}, ich möchte meinen Beitrag von 45 auf 60 Euro erhöhen.
Danke schon mal und viele Grüße aus dem Norden\n{PERSON}
Zum Aktenzeichen {ACCOUNT} habe ich seit sechs Wochen nichts gehört.
Ab wann darf meine Mutter nach der Hüftoperation wieder Auto fahren?
Wie lange ist ein polizeiliches Führungszeugnis gültig, und was kostet es?
Gibt es bei Ihnen ein Girokonto ohne Gebühren für Studierende unter 28?
Wo finde ich die Parkplätze am Krankenhaus, und kosten sie am Wochenende etwas?
Bitte ändern: bisher {PERSON}, künftig {PERSON}, wegen Heirat.
Laut {PERSON} reicht eine Kopie des Ausweises, stimmt das?
Patientin: {PERSON}, * {DATE_OF_BIRTH}. Ist das MRT schon ausgewertet?
Rückfragen gern unter {PHONE} oder {EMAIL}.
""".strip().split("\n")
ENGLISH = r"""
Good morning, {PERSON} here. The app says my password is wrong, what now?
I think somebody used {CREDIT_CARD} online without asking me.
Can you ring me on {PHONE} after five?
Our son {FIRST} was born on {DATE_OF_BIRTH}, how do we register him?
Which of the two is my account: {IBAN} or the old one?
The council wrote to {PERSON} instead of me about the bins.
I rent a flat at {ADDRESS} from the city, who repairs the heating?
Forward everything to {EMAIL} please, I don't read letters.
Social security number {US_TAX_ID}: what will my pension be?
Ms. {LAST} in radiology said the scan would be ready by Tuesday.
Could {PERSON} sign the papers on my behalf while I am abroad?
Yesterday {PERSON} and I opened a savings plan, but only one of us got a letter.
Member ID {ACCOUNT}, I want to change my plan from January.
How long does a wire transfer to Canada take, and is there a fee above 5,000 dollars?
Are visitors allowed in the children's ward on Sundays?
Does the library card work in all branches of the county?
Best wishes\n{PERSON}
The prescription was written for {PERSON}, not for me.
Deliver the ballot to {ADDRESS}, I'll be there until September.
Has the payment from {PERSON} come in, 1,250.00 on the 4th?
Nurse {LAST} was wonderful, whom can I thank?
My neighbour {PERSON} blocks the fire lane, which office handles that?
My tax ID in Germany is {TAX_ID}, do I need it for the Freistellungsauftrag?
Reach me under {PHONE} or {EMAIL}, either is fine.
""".strip().split("\n")
